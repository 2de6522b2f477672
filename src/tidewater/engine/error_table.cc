#include "tidewater/engine/error_table.h"
#include "tidewater/base/log.h"

namespace tidewater::engine {
using duckdb::Value;

Schema ErrorTable::TableSchema() {
  Schema schema;
  for (auto name : {"object", "operator", "row_key", "column_name", "value", "message", "hint"})
    schema.columns.push_back({name, LogicalType::VARCHAR});
  return schema;
}

/// Values come from outside and may be cut in the middle of a character.
static Value Text(const std::string& text) {
  if (Value::StringIsValid(text)) return Value(text);
  std::string ascii;
  for (auto c : text) ascii += static_cast<unsigned char>(c) < 0x80 ? c : '?';
  return Value(ascii);
}
static duckdb::vector<Value> ToRow(const ErrorEntry& e) {
  return {Text(e.object), Text(e.part), Text(e.row_key), Text(e.column), Text(e.value), Text(e.message), Text(e.hint)};
}

void ErrorTable::AddLocked(const ErrorEntry& entry, int64_t weight, DeltaBatch& delta) {
  auto& count = entries_[entry];
  if (count + weight < 0) {
    log::warn("error table: an entry of {} is taken away that is not there", entry.object);
    weight = -count;
  }
  count += weight;
  if (weight != 0) {
    if (delta.types.empty()) delta.types = TableSchema().GetTypes();
    delta.AppendRow(ToRow(entry), weight);
    counts_[entry.object] += uint64_t(weight);
    total_ += uint64_t(weight);
  }
  if (count == 0) entries_.erase(entry);
}

void ErrorTable::Add(const ErrorEntry& entry, int64_t weight, DeltaBatch& delta) {
  std::lock_guard lock(mutex_);
  AddLocked(entry, weight, delta);
}

void ErrorTable::Resolve(const std::string& object, const std::string& row_key, DeltaBatch& delta) {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<ErrorEntry, int64_t>> gone;
  for (auto it = entries_.lower_bound({object, "source", row_key, "", "", "", ""});
       it != entries_.end() && it->first.object == object && it->first.part == "source" && it->first.row_key == row_key;
       ++it)
    gone.push_back(*it);
  for (auto& [entry, count] : gone) AddLocked(entry, -count, delta);
}

void ErrorTable::Forget(const std::string& object, DeltaBatch& delta) {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<ErrorEntry, int64_t>> gone;
  for (auto it = entries_.lower_bound({object, "", "", "", "", "", ""});
       it != entries_.end() && it->first.object == object; ++it)
    gone.push_back(*it);
  for (auto& [entry, count] : gone) AddLocked(entry, -count, delta);
}

void ErrorTable::Load(const duckdb::vector<Value>& row) {
  auto text = [&](size_t i) { return row[i].IsNull() ? std::string() : row[i].ToString(); };
  std::lock_guard lock(mutex_);
  ErrorEntry entry{text(0), text(1), text(2), text(3), text(4), text(5), text(6)};
  entries_[entry]++;
  counts_[entry.object]++;
  total_++;
}

uint64_t ErrorTable::Count(const std::string& object) const {
  std::lock_guard lock(mutex_);
  auto it = counts_.find(object);
  return it == counts_.end() ? 0 : it->second;
}

uint64_t ErrorTable::Count() const {
  std::lock_guard lock(mutex_);
  return total_;
}

}  // namespace tidewater::engine
