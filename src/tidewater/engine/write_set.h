// Row changes: from the rows that a DML query produces to exact deltas, and the changes of an open transaction laid
// over its snapshot, so that it sees its own writes to tables (views it sees as of its epoch).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/catalog/catalog.h"
#include "tidewater/dataflow/circuit.h"
#include "tidewater/sql/frontend.h"
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater::engine {

using Row = duckdb::vector<duckdb::Value>;

struct DmlOutcome {
  DeltaBatch delta;  ///< exact: each -1 names a row of the snapshot
  uint64_t affected = 0;
  DeltaBatch returning;  ///< RETURNING's rows
};

/// Pulls the rows of `query` and checks them against the table's constraints as of `snapshot`. 23505, 23502, 21000,
/// 57014.
Result<DmlOutcome> RunDml(const sql::PreparedDml& dml, const catalog::Object& table, sql::QueryStream& rows,
                          const dataflow::Snapshot& snapshot, const std::function<bool()>& cancelled);

/// The net changes of a transaction, per table a Z-set.
class WriteSet {
 public:
  struct Entry {
    Row row;
    int64_t weight = 0;
  };
  struct Table {
    Schema schema;
    std::string name;
    std::unordered_map<std::string, Entry> entries;
  };
  void Add(const catalog::Object& table, const DeltaBatch& delta);
  bool empty() const { return tables_.empty(); }
  const std::map<ObjectId, Table>& tables() const { return tables_; }
  /// The rows of `base` with these changes.
  std::shared_ptr<dataflow::Snapshot> Over(std::shared_ptr<dataflow::Snapshot> base) const;
  /// Whether the changes still fit `newest`, where other transactions may have been in between: 40001, 23505.
  /// `changed_since` tells whether a table changed after the transaction's snapshot.
  Status Validate(const dataflow::Snapshot& newest, const std::function<bool(ObjectId)>& changed_since) const;
  std::map<ObjectId, DeltaBatch> Deltas() const;

 private:
  std::map<ObjectId, Table> tables_;
};

}  // namespace tidewater::engine
