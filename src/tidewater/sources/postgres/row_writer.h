// Rows of fields into DataChunks, and keys out of them.
#pragma once
#include <optional>
#include <string>
#include <vector>
#include "tidewater/sources/postgres/column_decoder.h"
#include "tidewater/types/change.h"

namespace tidewater::postgres {

/// Why a row cannot be held: the column (position in the table), its field, and the reason.
struct Misfit {
  uint32_t column = 0;
  const char* why = nullptr;
};

/// Writes rows of one table into the DataChunk it is bound to.
class RowWriter {
 public:
  explicit RowWriter(const std::vector<ColumnDecoder>* decoders) : decoders_(decoders) {}
  void Bind(DataChunk& chunk);
  bool bound() const { return chunk_ != nullptr; }
  void Unbind() { chunk_ = nullptr; }
  DataChunk& chunk() { return *chunk_; }

  /// Writes column `c` of `row`; nullptr or why it does not fit. Unchanged fields become NULL.
  const char* Put(uint32_t c, duckdb::idx_t row, const Field& field) {
    auto& vector = chunk_->data[c];
    if (field.kind == Field::kNull || field.kind == Field::kUnchanged) {
      PutNull(c, row);
      return nullptr;
    }
    auto& valid = *valid_[c];
    if (!valid.AllValid()) [[unlikely]]
      valid.SetValid(row);
    return (*decoders_)[c].Decode(field, vector, data_[c], row);
  }
  void PutNull(uint32_t c, duckdb::idx_t row) {
    if (list_[c]) [[unlikely]] {
      reinterpret_cast<duckdb::list_entry_t*>(data_[c])[row] = {0, 0};
    } else if (text_[c]) {
      reinterpret_cast<duckdb::string_t*>(data_[c])[row] = duckdb::string_t(uint32_t(0));
    }
    if (nested_[c]) [[unlikely]]
      duckdb::FlatVector::SetNull(chunk_->data[c], row, true);
    else
      valid_[c]->SetInvalid(row);
  }

 private:
  const std::vector<ColumnDecoder>* decoders_;
  DataChunk* chunk_ = nullptr;
  std::vector<duckdb::data_ptr_t> data_;
  std::vector<duckdb::ValidityMask*> valid_;
  std::vector<char> nested_, list_, text_;
};

/// Appends the bits of the key columns of a flat row to `out`: equal keys give equal bytes.
void AppendKey(const DataChunk& chunk, duckdb::idx_t row, const std::vector<uint32_t>& key, std::string& out);
/// The key for people and error tables: "17", "(17, abc)".
std::string KeyText(const DataChunk& chunk, duckdb::idx_t row, const std::vector<uint32_t>& key);
/// The key columns in a form that PostgreSQL reads back, one text per column.
std::vector<std::string> KeyForUpstream(const DataChunk& chunk, duckdb::idx_t row, const std::vector<uint32_t>& key);

}  // namespace tidewater::postgres
