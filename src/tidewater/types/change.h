// ChangeChunk: what upstream says happened, before a table turns it into a Z-set.
#pragma once
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater {

/// What happened to a row upstream. The table in the engine, which holds the old row, turns it into a delta.
enum class ChangeOp : uint8_t {
  kInsert = 0,    ///< append: for tables without a key, and for append-only sources
  kUpsert = 1,    ///< insert, or replace the row of that key
  kDelete = 2,    ///< delete the row of that key; only key columns are valid
  kMove = 3,      ///< a kDelete of the old key, directly followed by the kUpsert of the new one, which may take
                  ///< unchanged columns from the row just deleted
  kTruncate = 4,  ///< delete all rows of the table; no column is valid
};

/// Up to STANDARD_VECTOR_SIZE changes of one table in commit order. Columns are the table's columns in order.
struct ChangeChunk {
  ObjectId table = 0;
  std::unique_ptr<DataChunk> rows;
  /// One per row; empty means kInsert for all.
  std::vector<ChangeOp> ops;
  /// (row, column) pairs, sorted, whose value upstream did not send because it did not change (TOAST).
  std::vector<std::pair<uint32_t, uint32_t>> unchanged;
};

}  // namespace tidewater
