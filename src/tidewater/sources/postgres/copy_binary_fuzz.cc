// links: sources_postgres
// COPY binary into vectors of every type that has a binary form, cut into pieces anywhere; the same bytes as text.
#include <cstdlib>
#include "tidewater/sources/postgres/copy_binary.h"
#include "tidewater/sources/postgres/row_writer.h"

namespace {
using namespace tidewater;
using namespace tidewater::postgres;

std::vector<ColumnDecoder> Decoders() {
  std::vector<ColumnDecoder> d;
  auto add = [&](PgKind kind, LogicalType type, PgKind element = PgKind::kOther) {
    d.emplace_back(kind, element, type, true);
  };
  add(PgKind::kInt8, LogicalType::BIGINT);
  add(PgKind::kNumeric, LogicalType::DECIMAL(12, 2));
  add(PgKind::kNumeric, LogicalType::DECIMAL(38, 10));
  add(PgKind::kText, LogicalType::VARCHAR);
  add(PgKind::kTimestampTz, LogicalType::TIMESTAMP_TZ);
  add(PgKind::kDate, LogicalType::DATE);
  add(PgKind::kTimeTz, LogicalType::TIME_TZ);
  add(PgKind::kInterval, LogicalType::INTERVAL);
  add(PgKind::kUuid, LogicalType::UUID);
  add(PgKind::kBytea, LogicalType::BLOB);
  add(PgKind::kFloat4, LogicalType::FLOAT);
  add(PgKind::kArray, LogicalType::LIST(LogicalType::VARCHAR), PgKind::kText);
  add(PgKind::kArray, LogicalType::LIST(LogicalType::DECIMAL(6, 2)), PgKind::kNumeric);
  return d;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto decoders = Decoders();
  if (size < 2) return 0;
  Types types;
  for (auto& d : decoders) types.push_back(d.target());
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
  RowWriter writer(&decoders);
  writer.Bind(chunk);
  std::span<const char> bytes(reinterpret_cast<const char*>(data), size);

  // Whatever the header says, the rest is one value, of every type and in both forms.
  size_t column = data[0] % decoders.size();
  for (auto kind : {Field::kBinary, Field::kText}) {
    Field f{kind, uint32_t(size - 1), bytes.data() + 1};
    if (!writer.Put(uint32_t(column), 0, f)) {
      chunk.SetCardinality(1);
      chunk.data[column].GetValue(0).ToString();
    }
    (void)decoders[column].Text(f);
  }
  chunk.SetCardinality(0);

  CopyBinaryDecoder whole(decoders.size(), 1 << 20), pieces(decoders.size(), 1 << 20);
  size_t rows = 0, rows_in_pieces = 0;
  auto all = whole.Feed(bytes, [&](const Tuple& row) -> Status {
    auto at = rows++ % STANDARD_VECTOR_SIZE;
    for (uint32_t c = 0; c < row.size(); c++)
      if (writer.Put(c, at, row[c])) writer.PutNull(c, at);
    return {};
  });
  Status status;
  for (size_t at = 0, step = 1 + data[1] % 64; at < size && status; at += step)
    status = pieces.Feed(bytes.subspan(at, std::min(step, size - at)), [&](const Tuple&) -> Status {
      rows_in_pieces++;
      return {};
    });
  if (all.has_value() != status.has_value() || rows != rows_in_pieces) abort();
  if (all && whole.Finish().has_value() != pieces.Finish().has_value()) abort();
  return 0;
}
