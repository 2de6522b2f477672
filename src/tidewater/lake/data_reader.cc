#include "tidewater/lake/data_reader.h"
#include <algorithm>
#include "tidewater/base/check.h"
#include "tidewater/lake/types.h"

namespace tidewater::lake {
namespace {

std::string Quote(const std::string& text, char quote) {
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote) out += c;
    out += c;
  }
  return out + quote;
}

/// The path of a file on this machine's disk that DuckDB can open by name, or empty.
std::string LocalPath(iceberg::FileAccess& files, const std::string& location) {
  auto resolved = files.Resolve(location);
  if (!resolved) return {};
  auto root = resolved->store->LocalRoot();
  if (!root) return {};
  std::string path = *root + "/" + resolved->key;
  // DuckDB takes these for patterns.
  return path.find_first_of("*?[]{}") == std::string::npos ? path : std::string();
}

}  // namespace

Status ReadParquet(iceberg::FileAccess& files, const std::string& location, const std::vector<FileColumn>& columns,
                   const std::function<Status(DataChunk&)>& on_chunk) {
  std::string path = LocalPath(files, location);
  std::unique_ptr<MemoryFile> memory;
  if (path.empty()) {
    TW_ASSIGN(auto bytes, files.Get(location));
    memory = std::make_unique<MemoryFile>(std::move(bytes));
    path = memory->path();
  }
  bool nested = std::any_of(columns.begin(), columns.end(), [](auto& c) { return c.type.IsNested(); });
  std::string sql = "SELECT ", schema;
  for (size_t i = 0; i < columns.size(); i++) {
    auto& c = columns[i];
    if (nested) {
      sql += fmt::format("CAST({} AS {}), ", Quote(c.name, '"'), c.type.ToString());
    } else {
      sql += fmt::format("c{}, ", i);
      schema += fmt::format("{}{}: {{name: 'c{}', type: '{}', default_value: NULL}}", schema.empty() ? "" : ", ",
                            c.field_id, i, c.type.ToString());
    }
  }
  sql += "file_row_number FROM read_parquet(" + Quote(path, '\'') + ", file_row_number = true";
  if (!nested) sql += ", schema = MAP {" + schema + "}";
  sql += ")";
  try {
    auto connection = Connect();
    auto result = connection->SendQuery(sql);
    if (result->HasError())
      return std::unexpected(
          EnvError(ErrorKind::kIo, "reading {} failed: {}", location, result->GetErrorObject().RawMessage()));
    while (auto chunk = result->Fetch()) {
      if (chunk->size() == 0) break;
      TW_TRY(on_chunk(*chunk));
    }
    if (result->HasError())
      return std::unexpected(
          EnvError(ErrorKind::kCorrupt, "reading {} failed: {}", location, result->GetErrorObject().RawMessage()));
  } catch (const std::exception& e) {
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "reading {} failed: {}", location, DuckMessage(e)));
  }
  return {};
}

std::vector<FileColumn> PositionDeleteColumns() {
  return {{"file_path", LogicalType::VARCHAR, 2147483546, {}}, {"pos", LogicalType::BIGINT, 2147483545, {}}};
}

Result<const DeleteReader::ByDataFile*> DeleteReader::Load(const iceberg::DataFile& delete_file) {
  auto it = loaded_.find(delete_file.path);
  if (it != loaded_.end()) return &it->second;
  if (delete_file.format != "parquet")
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "position deletes in format {} ({}) cannot be read",
                                    delete_file.format, delete_file.path));
  ByDataFile positions;
  std::vector<uint64_t> run;
  auto status = ReadParquet(files_, delete_file.path, PositionDeleteColumns(), [&](DataChunk& chunk) -> Status {
    duckdb::UnifiedVectorFormat paths, pos;
    chunk.data[0].ToUnifiedFormat(chunk.size(), paths);
    chunk.data[1].ToUnifiedFormat(chunk.size(), pos);
    auto* p = duckdb::UnifiedVectorFormat::GetData<duckdb::string_t>(paths);
    auto* n = duckdb::UnifiedVectorFormat::GetData<int64_t>(pos);
    size_t i = 0;
    while (i < chunk.size()) {
      auto path = p[paths.sel->get_index(i)];
      run.clear();
      for (; i < chunk.size() && p[paths.sel->get_index(i)] == path; i++) {
        auto row = pos.sel->get_index(i);
        if (!paths.validity.RowIsValid(paths.sel->get_index(i)) || !pos.validity.RowIsValid(row) || n[row] < 0)
          return std::unexpected(
              EnvError(ErrorKind::kCorrupt, "{} holds a row without path or position", delete_file.path));
        run.push_back(n[row]);
      }
      positions[path.GetString()].AddMany(run.data(), run.size());
    }
    return {};
  });
  TW_TRY(status);
  return &loaded_.emplace(delete_file.path, std::move(positions)).first->second;
}

Result<iceberg::PositionSet> DeleteReader::Of(const iceberg::FileScanTask& task) {
  iceberg::PositionSet deleted;
  if (!task.equality_deletes.empty())
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "equality deletes apply to {}", task.file->path)
                               .WithHint("Rewrite the table's data files once so that no equality delete is left."));
  for (auto& d : task.deletes) {
    if (d.file->IsDeletionVector()) {
      TW_ASSIGN(auto set, iceberg::ReadDeletionVector(files_, *d.file));
      deleted.Union(set);
    } else {
      TW_ASSIGN(auto* positions, Load(*d.file));
      auto it = positions->find(task.file->path);
      if (it != positions->end()) deleted.Union(it->second);
    }
  }
  return deleted;
}

Status ReadTable(const iceberg::Table& table, const std::function<Status(DataChunk&)>& on_chunk) {
  auto& meta = *table.metadata;
  auto* snapshot = meta.CurrentSnapshot();
  if (!snapshot) return {};
  TW_ASSIGN(auto columns, FileColumns(meta.CurrentSchema()));
  Types types;
  for (auto& c : columns) types.push_back(c.type);
  TW_ASSIGN(auto tasks, iceberg::PlanScan(*table.files, meta, *snapshot));
  DeleteReader deletes(*table.files);
  for (auto& task : tasks) {
    TW_ASSIGN(auto deleted, deletes.Of(task));
    auto status = ReadParquet(*table.files, task.file->path, columns, [&](DataChunk& chunk) -> Status {
      duckdb::SelectionVector live(STANDARD_VECTOR_SIZE);
      chunk.Flatten();
      auto* pos = duckdb::FlatVector::GetData<int64_t>(chunk.data.back());
      size_t n = 0;
      for (size_t i = 0; i < chunk.size(); i++)
        if (!deleted.Contains(pos[i])) live.set_index(n++, i);
      DataChunk out;
      out.InitializeEmpty(types);
      for (size_t c = 0; c < types.size(); c++) out.data[c].Reference(chunk.data[c]);
      out.SetCardinality(chunk.size());
      out.Slice(live, n);
      return n ? on_chunk(out) : Status();
    });
    TW_TRY(status);
  }
  return {};
}

}  // namespace tidewater::lake
