#include "harness.h"
#include <algorithm>
#include <cstdlib>
#include <unistd.h>
#include "tidewater/base/check.h"

namespace tidewater::test {

TempDir::TempDir() {
  auto pattern = (std::filesystem::temp_directory_path() / "tidewater_test_XXXXXX").string();
  TW_CHECK(mkdtemp(pattern.data()) != nullptr, "mkdtemp {}", pattern);
  path_ = pattern;
}
TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

static std::string ToText(const duckdb::Value& value) {
  if (value.IsNull()) return "NULL";
  if (value.type().id() == duckdb::LogicalTypeId::BOOLEAN) return value.GetValue<bool>() ? "t" : "f";
  auto text = value.ToString();
  return text.empty() ? "(empty)" : text;
}

Result<Rows> Run(engine::Session& session, const std::string& sql, std::vector<duckdb::Value> parameters) {
  TW_ASSIGN(auto statement, session.Prepare(sql, {}));
  TW_ASSIGN(auto cursor, session.Execute(*statement, std::move(parameters)));
  Rows out;
  for (auto& c : cursor->columns) out.columns.push_back(c.name);
  while (true) {
    TW_ASSIGN(auto chunk, cursor->Next());
    if (!chunk) break;
    TW_CHECK_EQ(chunk->ColumnCount(), out.columns.size());
    for (duckdb::idx_t r = 0; r < chunk->size(); r++) {
      std::vector<std::string> row;
      for (duckdb::idx_t c = 0; c < chunk->ColumnCount(); c++) row.push_back(ToText(chunk->GetValue(c, r)));
      out.rows.push_back(std::move(row));
    }
  }
  out.tag = cursor->CommandTag();
  return out;
}

Rows MustRun(engine::Session& session, const std::string& sql) {
  auto rows = Run(session, sql);
  TW_CHECK(rows.has_value(), "{}\nin {}", rows.error().ToString(), sql);
  return std::move(*rows);
}

std::vector<std::string> Sorted(const Rows& rows) {
  std::vector<std::string> lines;
  for (auto& row : rows.rows) {
    std::string line;
    for (auto& v : row) line += (line.empty() ? "" : "|") + v;
    lines.push_back(std::move(line));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

}  // namespace tidewater::test
