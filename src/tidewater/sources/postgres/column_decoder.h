// One value off the wire into one cell of a DuckDB vector. Binary forms are decoded by tight functions per pair of
// types; text forms by the target type, so that any column can be declared as any type its text can be read as.
#pragma once
#include <memory>
#include <string>
#include "tidewater/sources/postgres/pg_type.h"
#include "tidewater/sources/postgres/pgoutput.h"

namespace tidewater::postgres {

/// A decoder for one column. Decode functions return nullptr, or why the value cannot be held (a static string).
class ColumnDecoder {
 public:
  /// `kind` and `element` describe the upstream's type (element for arrays). `check_utf8`: the database's encoding does
  /// not promise valid text.
  ColumnDecoder(PgKind kind, PgKind element, const LogicalType& target, bool check_utf8 = false);

  /// Whether values may come in binary form; otherwise they must be asked for as text.
  bool binary() const { return binary_ != nullptr; }
  const LogicalType& target() const { return target_; }

  /// `vector` is flat and has room for `row`; `data` is its FlatVector data. Not for NULL or unchanged fields.
  const char* Decode(const Field& field, duckdb::Vector& vector, duckdb::data_ptr_t data, duckdb::idx_t row) const {
    if (field.kind == Field::kBinary) {
      if (!binary_) return "came in a binary form that is not known";
      return binary_(*this, field.data, field.size, vector, data, row);
    }
    return text_(*this, field.data, field.size, vector, data, row);
  }

  using Function = const char* (*)(const ColumnDecoder&, const char* p, uint32_t size, duckdb::Vector&,
                                   duckdb::data_ptr_t, duckdb::idx_t row);

  /// A value off the wire for people: its text, or its bytes where the binary form is not known.
  std::string Text(const Field& field) const;

  // For the decode functions.
  uint8_t width() const { return width_; }
  uint8_t scale() const { return scale_; }
  bool check_utf8() const { return check_utf8_; }
  const ColumnDecoder& element() const { return *element_; }

 private:
  PgKind kind_;
  LogicalType target_;
  Function binary_ = nullptr;
  Function text_ = nullptr;
  uint8_t width_ = 0, scale_ = 0;
  bool check_utf8_ = false;
  std::shared_ptr<const ColumnDecoder> element_;  ///< shared so that decoders can be copied
};

}  // namespace tidewater::postgres
