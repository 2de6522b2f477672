// pg_snapshot: which transactions a query saw.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tidewater::postgres {

/// The transactions that are visible to a query ("System Information Functions", pg_current_snapshot). Transaction ids
/// are full ones (with their epoch) here, as in the text form; the stream carries the lower 32 bits.
class Snapshot {
 public:
  /// "xmin:xmax:xip,xip,…"
  static std::optional<Snapshot> Parse(const std::string& text);
  /// For a top-level transaction that has committed. Ids of the stream lie within 2^31 of xmax.
  bool Sees(uint32_t xid) const;
  const std::vector<uint64_t>& in_progress() const { return in_progress_; }
  uint64_t xmax() const { return xmax_; }
  /// Whether any of `xids` (full ids) is still in progress for this snapshot.
  bool AnyInProgress(const std::vector<uint64_t>& xids) const;

 private:
  uint64_t xmin_ = 0, xmax_ = 0;
  std::vector<uint64_t> in_progress_;  ///< sorted
};

}  // namespace tidewater::postgres
