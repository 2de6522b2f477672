#include "tidewater/sources/postgres/touch_log.h"
#include <algorithm>

namespace tidewater::postgres {

void TouchLog::Add(uint32_t xid, Kind kind, const std::string& key, std::span<const uint32_t> unchanged) {
  touches_.push_back(
      {xid, kind, keys_.size(), uint32_t(key.size()), uint32_t(unchanged_.size()), uint32_t(unchanged.size())});
  keys_ += key;
  unchanged_.insert(unchanged_.end(), unchanged.begin(), unchanged.end());
}

void TouchLog::Prune(const Snapshot& snapshot) {
  if (touches_.empty()) return;
  TouchLog kept;
  for (auto& t : touches_)
    if (!snapshot.Sees(t.xid))
      kept.Add(t.xid, t.kind, keys_.substr(t.key_at, t.key_size),
               std::span(unchanged_).subspan(t.unchanged_at, t.unchanged_size));
  *this = std::move(kept);
}

void TouchLog::Clear() { *this = TouchLog(); }

TouchLog::Verdicts TouchLog::Unseen(const Snapshot& snapshot) const {
  Verdicts out;
  uint32_t last_xid = 0;
  bool last_seen = true, first = true;
  for (auto& t : touches_) {
    if (first || t.xid != last_xid) last_seen = snapshot.Sees(t.xid);
    first = false;
    last_xid = t.xid;
    if (last_seen) continue;
    if (t.kind == kTruncated) {
      out.all_dropped = true;
      for (auto& [key, v] : out.keys) v = {true, {}};
      continue;
    }
    std::span<const uint32_t> unchanged = std::span(unchanged_).subspan(t.unchanged_at, t.unchanged_size);
    auto [it, fresh] = out.keys.try_emplace(keys_.substr(t.key_at, t.key_size));
    auto& v = it->second;
    if (t.kind == kWritten && !unchanged.empty() && !(fresh && out.all_dropped)) {
      if (fresh) {
        v.current.assign(unchanged.begin(), unchanged.end());
      } else if (!v.drop) {
        std::vector<uint32_t> both;
        std::set_intersection(v.current.begin(), v.current.end(), unchanged.begin(), unchanged.end(),
                              std::back_inserter(both));
        v.current = std::move(both);
        v.drop = v.current.empty();
      }
      continue;
    }
    v.drop = true;
    v.current.clear();
  }
  return out;
}

}  // namespace tidewater::postgres
