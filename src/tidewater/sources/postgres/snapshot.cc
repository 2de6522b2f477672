#include "tidewater/sources/postgres/snapshot.h"
#include <algorithm>
#include <charconv>

namespace tidewater::postgres {

std::optional<Snapshot> Snapshot::Parse(const std::string& text) {
  Snapshot s;
  auto* p = text.data();
  auto* end = p + text.size();
  auto number = [&](uint64_t& v) {
    auto r = std::from_chars(p, end, v);
    if (r.ec != std::errc()) return false;
    p = r.ptr;
    return true;
  };
  auto colon = [&] { return p < end && *p++ == ':'; };
  if (!number(s.xmin_) || !colon() || !number(s.xmax_) || !colon()) return std::nullopt;
  while (p < end) {
    uint64_t xid;
    if (!number(xid)) return std::nullopt;
    s.in_progress_.push_back(xid);
    if (p < end && *p++ != ',') return std::nullopt;
  }
  std::sort(s.in_progress_.begin(), s.in_progress_.end());
  return s;
}

bool Snapshot::Sees(uint32_t xid) const {
  int32_t behind = int32_t(xid - uint32_t(xmax_));
  if (behind >= 0) return false;
  uint64_t full = xmax_ + int64_t(behind);
  return full < xmin_ || !std::binary_search(in_progress_.begin(), in_progress_.end(), full);
}

bool Snapshot::AnyInProgress(const std::vector<uint64_t>& xids) const {
  for (auto xid : xids)
    if (xid >= xmax_ || std::binary_search(in_progress_.begin(), in_progress_.end(), xid)) return true;
  return false;
}

}  // namespace tidewater::postgres
