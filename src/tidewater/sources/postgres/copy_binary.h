// COPY … (FORMAT binary) as it comes from the server ("COPY", Binary Format): bytes in, rows of fields out.
#pragma once
#include <span>
#include <string>
#include "tidewater/base/result.h"
#include "tidewater/sources/postgres/pgoutput.h"

namespace tidewater::postgres {

class CopyBinaryDecoder {
 public:
  /// Rows must have `columns` fields; a row may hold at most `max_row_bytes`.
  explicit CopyBinaryDecoder(size_t columns, size_t max_row_bytes = size_t(1) << 30)
      : row_(columns), max_row_bytes_(max_row_bytes) {}

  /// Calls on_row(const Tuple&) -> Status for every row that is complete with these bytes. Bytes may be cut anywhere.
  template <class OnRow>
  Status Feed(std::span<const char> bytes, OnRow&& on_row) {
    if (!rest_.empty()) {
      rest_.append(bytes.data(), bytes.size());
      bytes = {rest_.data(), rest_.size()};
    }
    size_t used = 0;
    while (true) {
      auto n = Next(bytes.subspan(used));
      if (!n) return std::unexpected(std::move(n).error());
      if (*n == 0) break;
      used += *n;
      if (has_row_) TW_TRY(on_row(static_cast<const Tuple&>(row_)));
    }
    if (rest_.empty())
      rest_.assign(bytes.data() + used, bytes.size() - used);
    else
      rest_.erase(0, used);
    return {};
  }
  /// kCorrupt unless the trailer was seen and nothing is left over.
  Status Finish() const;

 private:
  /// Takes one thing (header, row, trailer) off the front: its size in bytes, 0 when it is not complete yet.
  Result<size_t> Next(std::span<const char> bytes);

  Tuple row_;
  bool has_row_ = false;
  bool header_seen_ = false;
  bool trailer_seen_ = false;
  size_t max_row_bytes_;
  std::string rest_;
};

}  // namespace tidewater::postgres
