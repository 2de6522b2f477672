// Which keys the stream touched while a table is loading, so that rows read by a load chunk and changes of the stream
// come together exactly.
//
// A chunk of the load is read under a snapshot. Of the transactions streamed before the chunk is handed over, the ones
// the snapshot sees are in the chunk's rows already; what the others did to a key came after those rows and wins.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>
#include "tidewater/sources/postgres/snapshot.h"

namespace tidewater::postgres {

class TouchLog {
 public:
  enum Kind : uint8_t {
    kWritten,    ///< the row of that key was inserted or updated; its `unchanged` columns were not sent
    kMovedHere,  ///< a row of another key took this key
    kGone,       ///< deleted, or moved to another key
    kTruncated,  ///< all rows
  };
  /// In the order of the stream. `unchanged` are column positions, sorted.
  void Add(uint32_t xid, Kind kind, const std::string& key, std::span<const uint32_t> unchanged = {});
  /// Forgets what every later snapshot sees.
  void Prune(const Snapshot& snapshot);
  void Clear();
  size_t size() const { return touches_.size(); }

  /// What becomes of a chunk's row.
  struct Verdict {
    bool drop = false;
    /// drop = false: only these columns of the chunk's row are still current.
    std::vector<uint32_t> current;
  };
  struct Verdicts {
    bool all_dropped = false;  ///< the table was truncated since
    std::unordered_map<std::string, Verdict> keys;
    bool empty() const { return !all_dropped && keys.empty(); }
  };
  /// The keys touched by transactions that `snapshot` does not see.
  Verdicts Unseen(const Snapshot& snapshot) const;

 private:
  struct Touch {
    uint32_t xid;
    Kind kind;
    uint64_t key_at;
    uint32_t key_size;
    uint32_t unchanged_at, unchanged_size;
  };
  std::vector<Touch> touches_;
  std::string keys_;
  std::vector<uint32_t> unchanged_;
};

}  // namespace tidewater::postgres
