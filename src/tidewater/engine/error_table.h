// The error table: rows that a source could not hold or an operator could not evaluate, as a Z-set.
//
// Its rows are those of the relation `tidewater_errors`; this is the copy by which entries are found again and views
// are known to be incomplete.
#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater::engine {

constexpr const char* kErrorTable = "tidewater_errors";

struct ErrorEntry {
  std::string object;  ///< the table or view
  std::string part;    ///< "source", or the operator's node number in the view
  std::string
      row_key;  ///< the primary key as text; of views, what names the row, pair or group (Circuit::EvaluationError)
  std::string column;
  std::string value;  ///< the value, or the row that failed
  std::string message;
  std::string hint;
  auto operator<=>(const ErrorEntry&) const = default;
};

/// Any thread.
class ErrorTable {
 public:
  static Schema TableSchema();
  /// Adds `weight` of the entry; returns the delta that the relation gets, never below zero rows.
  void Add(const ErrorEntry& entry, int64_t weight, DeltaBatch& delta);
  /// Takes all entries of a source's row away.
  void Resolve(const std::string& object, const std::string& row_key, DeltaBatch& delta);
  /// Takes all entries of an object away.
  void Forget(const std::string& object, DeltaBatch& delta);
  /// After a restart: one stored row.
  void Load(const duckdb::vector<duckdb::Value>& row);
  uint64_t Count(const std::string& object) const;
  uint64_t Count() const;

 private:
  void AddLocked(const ErrorEntry& entry, int64_t weight, DeltaBatch& delta);
  mutable std::mutex mutex_;
  std::map<ErrorEntry, int64_t> entries_;
  std::map<std::string, uint64_t> counts_;
  uint64_t total_ = 0;
};

}  // namespace tidewater::engine
