// For the tests of this folder: tables in memory as a Snapshot, and a slow batch interpreter of dataflow plans.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>
#include "tidewater/catalog/catalog.h"
#include "tidewater/dataflow/circuit.h"
#include "tidewater/sql/frontend.h"

namespace tidewater::sql {

using Row = duckdb::vector<duckdb::Value>;
using Rows = std::vector<Row>;

class MemorySnapshot : public dataflow::Snapshot {
 public:
  Epoch epoch() const override { return 1; }
  uint64_t Rows(ObjectId id) const override { return rows.at(id).size(); }
  uint64_t Parts(ObjectId id) const override { return (rows.at(id).size() + kPart - 1) / kPart; }
  bool Scan(ObjectId id, uint64_t part, uint64_t& resume, const std::vector<uint32_t>& columns,
            DataChunk& out) const override {
    auto& all = rows.at(id);
    uint64_t begin = part * kPart, n = std::min<uint64_t>(kPart, all.size() - begin);
    for (uint64_t r = 0; r < n; r++)
      for (size_t c = 0; c < columns.size(); c++) out.SetValue(c, r, all[begin + r][columns[c]]);
    out.SetCardinality(n);
    scans++;
    return false;
  }
  void Lookup(ObjectId id, const duckdb::vector<duckdb::Value>& key, DeltaBatch& out) const override {
    lookups++;
    for (auto& row : rows.at(id)) {
      bool equal = true;
      for (size_t i = 0; i < key.size(); i++)
        equal = equal && duckdb::Value::NotDistinctFrom(row[keys.at(id)[i]], key[i]);
      if (equal) out.AppendRow(row);
    }
  }

  static constexpr uint64_t kPart = 100;
  std::map<ObjectId, sql::Rows> rows;
  std::map<ObjectId, std::vector<uint32_t>> keys;
  mutable std::atomic<int> scans{0}, lookups{0};
};

/// The rows of a plan over a snapshot, in no order.
Rows Evaluate(duckdb::ClientContext& context, const dataflow::PlanNode& node, const MemorySnapshot& snapshot);
/// Each row as one line, sorted.
std::vector<std::string> Sorted(const Rows& rows);

/// Adds a relation with its columns as in CREATE TABLE.
catalog::ObjectPtr AddRelation(catalog::Catalog& catalog, Frontend& frontend, const std::string& name,
                               const std::string& columns, catalog::ObjectType type = catalog::ObjectType::kTable,
                               bool stream_only = false);

/// The Nexmark tables and queries, as Flink writes them.
extern const char* const kPersonColumns;
extern const char* const kAuctionColumns;
extern const char* const kBidColumns;
const std::vector<std::pair<std::string, std::string>>& NexmarkQueries();

}  // namespace tidewater::sql
