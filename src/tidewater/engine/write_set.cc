#include "tidewater/engine/write_set.h"
#include <unordered_set>
#include "tidewater/base/check.h"
#include "tidewater/engine/core.h"

namespace tidewater::engine {

using duckdb::idx_t;
using duckdb::Value;

namespace {

void AppendText(std::string& out, const Value& value) {
  if (value.IsNull()) {
    out += 'N';
    return;
  }
  auto text = value.ToString();
  out += std::to_string(text.size());
  out += ':';
  out += text;
}
std::string TextOf(const Row& row) {
  std::string out;
  for (auto& v : row) AppendText(out, v);
  return out;
}
Row KeyOf(const Row& row, const std::vector<uint32_t>& key) {
  Row out;
  for (auto c : key) out.push_back(row[c]);
  return out;
}
Row RowOf(DataChunk& chunk, idx_t r, idx_t from, idx_t count) {
  Row out;
  for (idx_t c = from; c < from + count; c++) out.push_back(chunk.GetValue(c, r));
  return out;
}
std::string List(const Row& row) {
  std::string out;
  for (auto& v : row) out += (out.empty() ? "" : ", ") + (v.IsNull() ? std::string("null") : v.ToString());
  return out;
}
std::unique_ptr<DataChunk> CopyOf(DataChunk& chunk) {
  auto copy = std::make_unique<DataChunk>();
  copy->Initialize(duckdb::Allocator::DefaultAllocator(), chunk.GetTypes(), std::max<idx_t>(chunk.size(), 1));
  chunk.Copy(*copy);
  return copy;
}

Error DuplicateKey(const std::string& table, const Schema& schema, const Row& key) {
  std::string names;
  for (auto c : schema.primary_key) names += (names.empty() ? "" : ", ") + schema.columns[c].name;
  return UserError("23505", "duplicate key value violates unique constraint \"{}_pkey\"", table)
      .WithDetail(fmt::format("Key ({})=({}) already exists.", names, List(key)));
}
Error NullValue(const std::string& table, const ColumnDef& column, const Row& row) {
  return UserError("23502", "null value in column \"{}\" of relation \"{}\" violates not-null constraint", column.name,
                   table)
      .WithDetail(fmt::format("Failing row contains ({}).", List(row)));
}
Error TwiceInStatement() {
  return UserError("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time")
      .WithHint(
          "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.");
}
Error Serialization(const std::string& table) {
  return Error{ErrorKind::kCommitFailed,
               "40001",
               fmt::format("could not serialize access to table \"{}\" due to concurrent update", table),
               {},
               "Run the transaction again.",
               0};
}

/// Calls `visit` with the visible rows of a relation, chunk by chunk.
void ScanAll(const dataflow::Snapshot& snapshot, ObjectId relation, const Types& types,
             const std::function<void(DataChunk&)>& visit) {
  std::vector<uint32_t> columns;
  for (uint32_t i = 0; i < types.size(); i++) columns.push_back(i);
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
  for (uint64_t part = 0, parts = snapshot.Parts(relation); part < parts; part++) {
    uint64_t resume = 0;
    for (bool more = true; more;) {
      chunk.Reset();
      more = snapshot.Scan(relation, part, resume, columns, chunk);
      if (chunk.size()) visit(chunk);
    }
  }
}

bool HasKey(const dataflow::Snapshot& snapshot, ObjectId table, const Types& types, const Row& key, DeltaBatch& found) {
  found = {};
  found.types = types;
  snapshot.Lookup(table, key, found);
  return found.rows() > 0;
}

struct Writer {
  const sql::PreparedDml& dml;
  const catalog::Object& table;
  const dataflow::Snapshot& snapshot;
  Schema schema;
  Types types;
  DeltaBatch replaced;  ///< ON CONFLICT DO UPDATE: the rows before
  DmlOutcome out;

  Writer(const sql::PreparedDml& d, const catalog::Object& t, const dataflow::Snapshot& s)
      : dml(d), table(t), snapshot(s), schema(sql::ToSchema(t)), types(schema.GetTypes()) {
    out.delta.types = replaced.types = types;
    for (auto c : dml.returning) out.returning.types.push_back(types[c]);
  }

  Status CheckNotNull(DataChunk& chunk, idx_t from) {
    for (idx_t c = 0; c < schema.columns.size(); c++) {
      if (!schema.columns[c].not_null) continue;
      duckdb::UnifiedVectorFormat format;
      chunk.data[from + c].ToUnifiedFormat(chunk.size(), format);
      if (format.validity.AllValid()) continue;
      for (idx_t r = 0; r < chunk.size(); r++)
        if (!format.validity.RowIsValid(format.sel->get_index(r)))
          return std::unexpected(NullValue(table.name, schema.columns[c], RowOf(chunk, r, from, types.size())));
    }
    return {};
  }
  void Return(const Row& row) {
    if (dml.returning.empty()) return;
    Row values;
    for (auto c : dml.returning) values.push_back(row[c]);
    out.returning.AppendRow(values);
  }
};

Status Insert(Writer& w, DataChunk& chunk, std::unordered_set<std::string>& seen) {
  TW_TRY(w.CheckNotNull(chunk, 0));
  duckdb::SelectionVector keep(chunk.size());
  idx_t kept = 0;
  auto& key = w.schema.primary_key;
  for (idx_t r = 0; r < chunk.size(); r++) {
    if (!key.empty()) {
      Row values;
      for (auto c : key) values.push_back(chunk.GetValue(c, r));
      DeltaBatch found;
      bool again = !seen.insert(TextOf(values)).second;
      bool there = !again && HasKey(w.snapshot, w.table.id, w.types, values, found);
      using OnConflict = sql::PreparedDml::OnConflict;
      if (again && w.dml.on_conflict == OnConflict::kUpsert) return std::unexpected(TwiceInStatement());
      if (again || there) {
        if (w.dml.on_conflict == OnConflict::kError)
          return std::unexpected(DuplicateKey(w.table.name, w.schema, values));
        if (w.dml.on_conflict == OnConflict::kNothing) continue;
        w.replaced.AppendRow(RowOf(*found.chunks[0].rows, 0, 0, w.types.size()), -1);
      }
    }
    keep.set_index(kept++, r);
    if (!w.dml.returning.empty()) w.Return(RowOf(chunk, r, 0, w.types.size()));
  }
  w.out.affected += kept;
  if (kept == 0) return {};
  if (kept < chunk.size()) chunk.Slice(keep, kept);
  DeltaChunk rows;
  rows.rows = CopyOf(chunk);
  w.out.delta.chunks.push_back(std::move(rows));
  return {};
}

}  // namespace

Result<DmlOutcome> RunDml(const sql::PreparedDml& dml, const catalog::Object& table, sql::QueryStream& rows,
                          const dataflow::Snapshot& snapshot, const std::function<bool()>& cancelled) {
  Writer w(dml, table, snapshot);
  auto width = w.types.size();
  if (dml.kind == sql::DmlKind::kInsert) {
    std::unordered_set<std::string> seen;
    while (true) {
      TW_ASSIGN(auto chunk, rows.Next());
      if (!chunk) break;
      if (cancelled()) return std::unexpected(CancelledError());
      TW_CHECK_EQ(chunk->ColumnCount(), width);
      TW_TRY(Insert(w, *chunk, seen));
    }
    w.replaced.Append(std::move(w.out.delta));
    w.out.delta = std::move(w.replaced);
    return std::move(w.out);
  }

  // UPDATE and DELETE: the old rows first, each at most as often as it is stored.
  struct Change {
    Row before, after;
  };
  std::vector<Change> changes;
  bool update = dml.kind == sql::DmlKind::kUpdate;
  auto& key = w.schema.primary_key;
  std::unordered_map<std::string, int64_t> old_rows;
  bool repeated = false;
  while (true) {
    TW_ASSIGN(auto chunk, rows.Next());
    if (!chunk) break;
    if (cancelled()) return std::unexpected(CancelledError());
    TW_CHECK_EQ(chunk->ColumnCount(), update ? 2 * width : width);
    if (update) TW_TRY(w.CheckNotNull(*chunk, width));
    for (idx_t r = 0; r < chunk->size(); r++) {
      Change change{RowOf(*chunk, r, 0, width), update ? RowOf(*chunk, r, width, width) : Row{}};
      // A join may name a row several times: the first match counts, as in PostgreSQL.
      auto& times = old_rows[TextOf(key.empty() ? change.before : KeyOf(change.before, key))];
      if (times && !key.empty()) continue;
      repeated |= ++times > 1;
      changes.push_back(std::move(change));
    }
  }
  if (repeated) {
    std::unordered_map<std::string, int64_t> stored;
    ScanAll(snapshot, table.id, w.types, [&](DataChunk& chunk) {
      for (idx_t r = 0; r < chunk.size(); r++) {
        auto text = TextOf(RowOf(chunk, r, 0, width));
        if (auto it = old_rows.find(text); it != old_rows.end()) stored[text]++;
      }
    });
    std::vector<Change> possible;
    for (auto& change : changes)
      if (stored[TextOf(change.before)]-- > 0) possible.push_back(std::move(change));
    changes = std::move(possible);
  }
  if (update && !key.empty()) {
    std::unordered_set<std::string> new_keys;
    for (auto& change : changes) {
      auto values = KeyOf(change.after, key);
      auto text = TextOf(values);
      DeltaBatch found;
      if (!new_keys.insert(text).second ||
          (!old_rows.contains(text) && HasKey(snapshot, table.id, w.types, values, found)))
        return std::unexpected(DuplicateKey(table.name, w.schema, values));
    }
  }
  for (auto& change : changes) {
    w.out.delta.AppendRow(change.before, -1);
    if (update) w.out.delta.AppendRow(change.after, 1);
    w.Return(update ? change.after : change.before);
  }
  w.out.affected = changes.size();
  return std::move(w.out);
}

void WriteSet::Add(const catalog::Object& table, const DeltaBatch& delta) {
  auto& t = tables_[table.id];
  if (t.name.empty()) {
    t.name = table.name;
    t.schema = sql::ToSchema(table);
  }
  for (auto& chunk : delta.chunks) {
    for (idx_t r = 0; r < chunk.size(); r++) {
      auto row = RowOf(*chunk.rows, r, 0, t.schema.columns.size());
      auto text = TextOf(row);
      auto [it, fresh] = t.entries.try_emplace(std::move(text));
      if (fresh) it->second.row = std::move(row);
      it->second.weight += chunk.weight(r);
      if (it->second.weight == 0) t.entries.erase(it);
    }
  }
}

std::map<ObjectId, DeltaBatch> WriteSet::Deltas() const {
  std::map<ObjectId, DeltaBatch> out;
  for (auto& [id, table] : tables_) {
    if (table.entries.empty()) continue;
    auto& delta = out[id];
    delta.types = table.schema.GetTypes();
    for (auto& [text, entry] : table.entries)
      if (entry.weight < 0) delta.AppendRow(entry.row, entry.weight);
    for (auto& [text, entry] : table.entries)
      if (entry.weight > 0) delta.AppendRow(entry.row, entry.weight);
  }
  return out;
}

Status WriteSet::Validate(const dataflow::Snapshot& newest, const std::function<bool(ObjectId)>& changed_since) const {
  for (auto& [id, table] : tables_) {
    if (table.entries.empty() || !changed_since(id)) continue;
    auto& key = table.schema.primary_key;
    auto types = table.schema.GetTypes();
    std::unordered_set<std::string> leaving;
    for (auto& [text, entry] : table.entries) {
      if (entry.weight > 0) continue;
      // Without a key nothing says which row was meant.
      if (key.empty()) return std::unexpected(Serialization(table.name));
      DeltaBatch found;
      auto values = KeyOf(entry.row, key);
      if (!HasKey(newest, id, types, values, found) || TextOf(RowOf(*found.chunks[0].rows, 0, 0, types.size())) != text)
        return std::unexpected(Serialization(table.name));
      leaving.insert(TextOf(values));
    }
    if (key.empty()) continue;
    for (auto& [text, entry] : table.entries) {
      if (entry.weight < 0) continue;
      auto values = KeyOf(entry.row, key);
      DeltaBatch found;
      if (!leaving.contains(TextOf(values)) && HasKey(newest, id, types, values, found))
        return std::unexpected(DuplicateKey(table.name, table.schema, values));
    }
  }
  return {};
}

namespace {

/// A snapshot with the changes of one transaction over it. Immutable, so any thread.
class OverlaySnapshot final : public dataflow::Snapshot {
 public:
  struct Table {
    Types types;
    std::vector<uint32_t> key;
    std::unordered_set<uint64_t> removed_hashes;  ///< of the key, or of the whole row where there is none
    std::unordered_set<std::string> removed;      ///< the keys
    DeltaBatch rows;                              ///< added; for keyless tables with removals: all rows there are
    bool whole = false;                           ///< `rows` are all rows
  };

  OverlaySnapshot(std::shared_ptr<dataflow::Snapshot> base, std::map<ObjectId, Table> tables)
      : base_(std::move(base)), tables_(std::move(tables)) {}

  Epoch epoch() const override { return base_->epoch(); }
  uint64_t Rows(ObjectId relation) const override {
    auto t = Find(relation);
    return !t ? base_->Rows(relation) : t->rows.rows() + (t->whole ? 0 : base_->Rows(relation));
  }
  uint64_t Parts(ObjectId relation) const override {
    auto t = Find(relation);
    return !t ? base_->Parts(relation) : t->rows.chunks.size() + (t->whole ? 0 : base_->Parts(relation));
  }
  bool Scan(ObjectId relation, uint64_t part, uint64_t& resume, const std::vector<uint32_t>& columns,
            DataChunk& out) const override {
    auto t = Find(relation);
    if (!t) return base_->Scan(relation, part, resume, columns, out);
    if (part < t->rows.chunks.size()) {
      auto& rows = *t->rows.chunks[part].rows;
      for (idx_t i = 0; i < columns.size(); i++) out.data[i].Reference(rows.data[columns[i]]);
      out.SetCardinality(rows.size());
      return false;
    }
    part -= t->rows.chunks.size();
    if (t->removed.empty()) return base_->Scan(relation, part, resume, columns, out);
    // The key is needed to know which rows are gone.
    auto wanted = columns;
    for (auto c : t->key) wanted.push_back(c);
    Types types, key_types;
    for (auto c : wanted) types.push_back(t->types[c]);
    DataChunk rows, keys;
    rows.Initialize(duckdb::Allocator::DefaultAllocator(), types);
    bool more = base_->Scan(relation, part, resume, wanted, rows);
    for (auto c : t->key) key_types.push_back(t->types[c]);
    keys.InitializeEmpty(key_types);
    for (idx_t i = 0; i < t->key.size(); i++) keys.data[i].Reference(rows.data[columns.size() + i]);
    keys.SetCardinality(rows.size());
    duckdb::Vector hashes(LogicalType::HASH);
    keys.Hash(hashes);
    hashes.Flatten(rows.size());
    auto hash = duckdb::FlatVector::GetData<duckdb::hash_t>(hashes);
    duckdb::SelectionVector keep(rows.size());
    idx_t kept = 0;
    for (idx_t r = 0; r < rows.size(); r++)
      if (!t->removed_hashes.contains(hash[r]) || !t->removed.contains(TextOf(RowOf(keys, r, 0, t->key.size()))))
        keep.set_index(kept++, r);
    for (idx_t i = 0; i < columns.size(); i++) {
      if (kept < rows.size()) rows.data[i].Flatten(rows.size());
      out.data[i].Reference(rows.data[i]);
    }
    out.SetCardinality(rows.size());
    if (kept < rows.size()) out.Slice(keep, kept);
    return more;
  }
  void Lookup(ObjectId relation, const Row& key, DeltaBatch& out) const override {
    auto t = Find(relation);
    if (!t) return base_->Lookup(relation, key, out);
    auto text = TextOf(key);
    for (auto& chunk : t->rows.chunks)
      for (idx_t r = 0; r < chunk.size(); r++) {
        auto row = RowOf(*chunk.rows, r, 0, t->types.size());
        if (TextOf(KeyOf(row, t->key)) == text) out.AppendRow(row);
      }
    if (!t->removed.contains(text)) base_->Lookup(relation, key, out);
  }

 private:
  const Table* Find(ObjectId relation) const {
    auto it = tables_.find(relation);
    return it == tables_.end() ? nullptr : &it->second;
  }
  std::shared_ptr<dataflow::Snapshot> base_;
  std::map<ObjectId, Table> tables_;
};

}  // namespace

std::shared_ptr<dataflow::Snapshot> WriteSet::Over(std::shared_ptr<dataflow::Snapshot> base) const {
  std::map<ObjectId, OverlaySnapshot::Table> tables;
  for (auto& [id, table] : tables_) {
    if (table.entries.empty()) continue;
    auto& t = tables[id];
    t.types = table.schema.GetTypes();
    t.key = table.schema.primary_key;
    t.rows.types = t.types;
    std::unordered_map<std::string, int64_t> gone;
    DeltaBatch removed_keys;
    for (auto c : t.key) removed_keys.types.push_back(t.types[c]);
    for (auto& [text, entry] : table.entries) {
      if (entry.weight > 0) {
        for (int64_t i = 0; i < entry.weight; i++) t.rows.AppendRow(entry.row);
      } else if (t.key.empty()) {
        gone[text] = -entry.weight;
      } else {
        auto key = KeyOf(entry.row, t.key);
        t.removed.insert(TextOf(key));
        removed_keys.AppendRow(key);
      }
    }
    for (auto& chunk : removed_keys.chunks) {
      duckdb::Vector hashes(LogicalType::HASH);
      chunk.rows->Hash(hashes);
      hashes.Flatten(chunk.size());
      auto hash = duckdb::FlatVector::GetData<duckdb::hash_t>(hashes);
      t.removed_hashes.insert(hash, hash + chunk.size());
    }
    if (!gone.empty()) {
      t.whole = true;
      ScanAll(*base, id, t.types, [&](DataChunk& chunk) {
        for (idx_t r = 0; r < chunk.size(); r++) {
          auto row = RowOf(chunk, r, 0, t.types.size());
          if (auto it = gone.find(TextOf(row)); it != gone.end() && it->second > 0) {
            it->second--;
          } else {
            t.rows.AppendRow(row);
          }
        }
      });
    }
  }
  if (tables.empty()) return base;
  return std::make_shared<OverlaySnapshot>(std::move(base), std::move(tables));
}

}  // namespace tidewater::engine
