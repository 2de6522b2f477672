#include "tidewater/lake/table_writer.h"
#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"
#include "tidewater/lake/types.h"

namespace tidewater::lake {
namespace {

/// How many keys ahead a slot is brought into the cache.
constexpr size_t kAhead = 8;
/// Keys that the index makes room for on the word of the manifests alone.
constexpr int64_t kReserveMax = 1 << 24;

std::string ColumnError(const std::string& name) { return fmt::format("column \"{}\"", name); }

Status PutWithRetries(iceberg::FileAccess& files, const std::string& location, std::string_view bytes, int retries) {
  for (int attempt = 0;; attempt++) {
    auto status = files.Put(location, bytes);
    if (status) return status;
    auto kind = status.error().kind;
    if (attempt >= retries || (kind != ErrorKind::kUnavailable && kind != ErrorKind::kIo)) return status;
    log::warn("lake: put failed, trying again location={} error=\"{}\"", location, status.error().ToString());
    std::this_thread::sleep_for(std::chrono::milliseconds(100 << attempt));
  }
}

}  // namespace

std::string DataLocation(const iceberg::TableMetadata& metadata) {
  auto it = metadata.properties.find("write.data.path");
  std::string location =
      it != metadata.properties.end() && !it->second.empty() ? it->second : metadata.location + "/data";
  while (location.ends_with('/')) location.pop_back();
  return location;
}

/// What one Prepare() has made so far.
struct TableWriter::Output {
  iceberg::FileAccess& files;
  std::string location;
  std::string prefix;
  uint64_t expected_rows = 0;
  iceberg::TableChange change;
  std::unique_ptr<ParquetFile> writer;
  uint32_t file_id = 0;  ///< of the open file
  std::vector<uint32_t> new_files;
  uint32_t next_number = 0;
  std::unordered_map<uint32_t, std::vector<uint64_t>> deletes;
  KeyBatch keys;

  std::string NextPath(const char* kind) { return fmt::format("{}/{}-{}{:05}", location, prefix, kind, next_number++); }
};

TableWriter::TableWriter(TableWriterOptions options, std::vector<Column> columns, std::vector<FileColumn> file_columns,
                         std::vector<uint32_t> key_columns, Types key_types, int format_version)
    : options_(std::move(options)),
      columns_(std::move(columns)),
      file_columns_(std::move(file_columns)),
      key_columns_(std::move(key_columns)),
      key_types_(key_types),
      format_version_(format_version),
      connection_(Connect()),
      codec_(key_types),
      index_(codec_.is_integer()) {
  for (auto& c : columns_) storage_types_.push_back(c.type);
}

Result<std::unique_ptr<TableWriter>> TableWriter::Make(const iceberg::Table& table, const Schema& view,
                                                       TableWriterOptions options) {
  auto& meta = *table.metadata;
  auto& schema = meta.CurrentSchema();
  auto name = table.ident.ToString();
  if (!meta.DefaultSpec().IsUnpartitioned())
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "table {} is partitioned", name)
                               .WithHint("Write to an unpartitioned table."));
  if (meta.format_version < 2)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "table {} has format version 1", name)
                               .WithHint("Upgrade the table to format version 2."));
  TW_ASSIGN(auto file_columns, FileColumns(schema));
  std::vector<Column> columns;
  std::vector<bool> used(view.columns.size());
  for (size_t i = 0; i < schema.fields.size(); i++) {
    auto& field = schema.fields[i];
    Column c;
    c.source = view.Find(field.name);
    c.type = file_columns[i].type;
    if (c.source < 0) {
      if (field.required)
        return std::unexpected(
            UserError("42703", "table {} requires the column \"{}\", which the view does not have", name, field.name));
    } else {
      used[c.source] = true;
      auto& column = view.columns[c.source];
      auto storage = StorageType(column.type, meta.format_version);
      if (!storage) return std::unexpected(std::move(storage).error().WithDetail(ColumnError(column.name)));
      if (!Widens(*storage, c.type))
        return std::unexpected(UserError("42804", "column \"{}\" is {}, but {} in table {}", column.name,
                                         column.type.ToString(), field.type.ToString(), name));
    }
    columns.push_back(std::move(c));
  }
  for (size_t i = 0; i < used.size(); i++)
    if (!used[i])
      return std::unexpected(UserError("42703", "table {} has no column \"{}\"", name, view.columns[i].name)
                                 .WithHint("Add the column to the table, or leave it out of the view."));
  std::vector<uint32_t> key_columns;
  Types key_types;
  if (options.upsert) {
    TW_CHECK(!options.key.empty());
    for (auto k : options.key) {
      uint32_t at = 0;
      while (columns[at].source != int(k)) at++;
      if (!KeyCodec::CanBeKey(columns[at].type))
        return std::unexpected(UserError("42P16", "column \"{}\" of type {} cannot be part of a primary key",
                                         view.columns[k].name, columns[at].type.ToString()));
      key_columns.push_back(at);
      key_types.push_back(columns[at].type);
    }
  } else {
    key_types.push_back(LogicalType::BIGINT);  // the index stays empty
  }
  return std::unique_ptr<TableWriter>(new TableWriter(std::move(options), std::move(columns), std::move(file_columns),
                                                      std::move(key_columns), std::move(key_types),
                                                      meta.format_version));
}

Status TableWriter::IndexFile(iceberg::FileAccess& files, const iceberg::DataFile& file,
                              const iceberg::PositionSet& deleted) {
  if (file.format != "parquet")
    return std::unexpected(
        EnvError(ErrorKind::kUnsupported, "data files in format {} ({}) cannot be indexed", file.format, file.path));
  uint32_t id = NewFile(file.path);
  if (file.record_count < 0 || file.record_count >= int64_t(RowLocation::kNone))
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "{} holds {} rows", file.path, file.record_count));
  std::vector<FileColumn> columns;
  for (auto k : key_columns_) columns.push_back(file_columns_[k]);
  std::vector<uint32_t> positions(columns.size());
  for (size_t i = 0; i < positions.size(); i++) positions[i] = i;
  bool any_deleted = !deleted.Empty();
  KeyBatch keys;
  uint64_t live = 0;
  auto status = ReadParquet(files, file.path, columns, [&](DataChunk& chunk) -> Status {
    codec_.Encode(chunk, positions, &keys);
    duckdb::UnifiedVectorFormat pos;
    chunk.data.back().ToUnifiedFormat(chunk.size(), pos);
    auto* at = duckdb::UnifiedVectorFormat::GetData<int64_t>(pos);
    for (size_t i = 0; i < chunk.size(); i++) {
      if (i + kAhead < chunk.size()) index_.Prefetch(keys, i + kAhead);
      auto position = at[pos.sel->get_index(i)];
      if (any_deleted && deleted.Contains(position)) continue;
      auto* location = index_.FindOrAdd(keys, i);
      if (location->valid())
        return std::unexpected(
            EnvError(ErrorKind::kConflict, "primary key {} stands in {} although {} holds it",
                     KeyCodec::Describe(chunk, positions, i), file.path, files_[location->file].path)
                .WithHint("Delete one of the two rows from the Iceberg table, then drop and create the sink."));
      *location = {id, uint32_t(position)};
      live++;
    }
    return {};
  });
  TW_TRY(status);
  files_[id].live_rows = live;
  return {};
}

Status TableWriter::Rebuild(const iceberg::Table& table) {
  index_.Clear();
  files_.clear();
  free_files_.clear();
  grouped_deletes_.clear();
  free_grouped_.clear();
  dangling_deletes_.clear();
  if (!options_.upsert) return {};
  auto* snapshot = table.metadata->CurrentSnapshot();
  if (!snapshot) return {};
  TW_ASSIGN(auto tasks, iceberg::PlanScan(*table.files, *table.metadata, *snapshot));
  uint64_t rows = 0;
  for (auto& t : tasks) rows += std::clamp<int64_t>(t.file->record_count, 0, kReserveMax);
  index_.Reserve(std::min<uint64_t>(rows, kReserveMax));
  DeleteReader reader(*table.files);
  struct Named {
    std::shared_ptr<const iceberg::DataFile> file;
    std::vector<uint32_t> live;
  };
  std::map<std::string, Named> named;
  for (auto& task : tasks) {
    TW_ASSIGN(auto deleted, reader.Of(task));
    uint32_t id = files_.size();  // no place is free yet
    TW_TRY(IndexFile(*table.files, *task.file, deleted));
    if (format_version_ >= 3) {
      if (!deleted.Empty()) files_[id].deleted = std::make_unique<iceberg::PositionSet>(std::move(deleted));
      continue;
    }
    for (auto& d : task.deletes) {
      // One that says which file it is for goes along with it.
      if (!d.file->referenced_data_file.empty()) continue;
      TW_ASSIGN(auto* positions, reader.Load(*d.file));
      auto& entry = named[d.file->path];
      entry.file = d.file;
      if (positions->contains(task.file->path)) entry.live.push_back(id);
    }
  }
  for (auto& [path, entry] : named) {
    if (entry.live.empty()) {
      dangling_deletes_.push_back({path, {}});
      continue;
    }
    auto g = NewGroupedDelete({std::move(entry.file), uint32_t(entry.live.size())});
    for (auto id : entry.live) files_[id].grouped.push_back(g);
  }
  return {};
}

Status TableWriter::IndexForeign(const iceberg::Table& table, const std::vector<iceberg::ManifestEntry>& files) {
  if (!options_.upsert) return {};
  for (auto& entry : files) TW_TRY(IndexFile(*table.files, *entry.file, iceberg::PositionSet()));
  return {};
}

Status TableWriter::ToStorage(DataChunk& rows, DataChunk* out) {
  out->InitializeEmpty(storage_types_);
  try {
    for (size_t c = 0; c < columns_.size(); c++) {
      auto& column = columns_[c];
      auto& target = out->data[c];
      if (column.source < 0) {
        target.Reference(duckdb::Value(column.type));
        continue;
      }
      auto& source = rows.data[column.source];
      if (source.GetType() == column.type) {
        target.Reference(source);
      } else if (source.GetType().id() == column.type.id() &&
                 source.GetType().InternalType() == column.type.InternalType() && !column.type.IsNested() &&
                 column.type.id() != duckdb::LogicalTypeId::DECIMAL) {
        target.Reinterpret(source);  // an alias such as JSON
      } else {
        duckdb::Vector cast(column.type, rows.size());
        duckdb::VectorOperations::Cast(*connection_->context, source, cast, rows.size());
        target.Reference(cast);
      }
    }
  } catch (const std::exception& e) {
    return std::unexpected(UserError("22003", "a value does not fit its Iceberg type: {}", DuckMessage(e)));
  }
  out->SetCardinality(rows.size());
  return {};
}

Status TableWriter::Put(DataChunk& storage, Output& out) {
  if (storage.size() == 0) return {};
  if (!out.writer) {
    ParquetOptions options;
    options.zstd_level = options_.zstd_level;
    options.expected_rows = out.expected_rows;
    TW_ASSIGN(out.writer, ParquetFile::Create(file_columns_, options));
    out.file_id = NewFile(out.NextPath("") + ".parquet");
    out.new_files.push_back(out.file_id);
  }
  uint64_t first = out.writer->rows();
  TW_CHECK_LT(first + storage.size(), uint64_t(RowLocation::kNone));
  TW_TRY(out.writer->Append(storage));
  rows_written_ += storage.size();
  if (options_.upsert) {
    codec_.Encode(storage, key_columns_, &out.keys);
    for (size_t i = 0; i < storage.size(); i++) {
      if (i + kAhead < storage.size()) index_.Prefetch(out.keys, i + kAhead);
      auto* location = index_.FindOrAdd(out.keys, i);
      if (location->valid()) {
        files_[location->file].live_rows--;
        out.deletes[location->file].push_back(location->position);
      }
      *location = {out.file_id, uint32_t(first + i)};
    }
    files_[out.file_id].live_rows += storage.size();
  }
  if (out.writer->encoded_bytes() < options_.target_file_bytes) return {};
  return FinishFile(out);
}

Status TableWriter::FinishFile(Output& out) {
  if (!out.writer) return {};
  TW_ASSIGN(auto finished, out.writer->Finish());
  out.writer.reset();
  finished.file.content = iceberg::FileContent::kData;
  finished.file.path = files_[out.file_id].path;
  // Named before the put: whatever of it arrives is then deleted when the change is abandoned.
  out.change.added_data.push_back(std::move(finished.file));
  return PutWithRetries(out.files, out.change.added_data.back().path, finished.bytes, options_.put_retries);
}

Status TableWriter::WriteInserts(std::span<const DeltaBatch* const> rows, Output& out) {
  for (auto* batch : rows) {
    for (auto& chunk : batch->chunks) {
      if (chunk.size() == 0) continue;
      DataChunk storage;
      TW_TRY(ToStorage(*chunk.rows, &storage));
      TW_TRY(Put(storage, out));
    }
  }
  return {};
}

Status TableWriter::WriteAppendOnly(std::span<const DeltaBatch* const> rows, Output& out) {
  for (auto* batch : rows) {
    for (auto& chunk : batch->chunks) {
      if (chunk.size() == 0) continue;
      DataChunk storage;
      TW_TRY(ToStorage(*chunk.rows, &storage));
      if (chunk.all_inserts()) {
        TW_TRY(Put(storage, out));
        continue;
      }
      std::vector<uint32_t> kept;
      for (size_t i = 0; i < chunk.size(); i++) {
        auto weight = chunk.weight(i);
        if (weight < 0 && !options_.drop_retractions)
          return std::unexpected(
              UserError("0A000", "an append-only sink got a retraction")
                  .WithHint("Use type = 'upsert' with a primary key, or force_append_only = 'true'."));
        for (int64_t n = 0; n < weight; n++) kept.push_back(i);
      }
      for (size_t at = 0; at < kept.size(); at += STANDARD_VECTOR_SIZE) {
        size_t n = std::min<size_t>(STANDARD_VECTOR_SIZE, kept.size() - at);
        duckdb::SelectionVector sel(n);
        for (size_t i = 0; i < n; i++) sel.set_index(i, kept[at + i]);
        DataChunk part;
        part.InitializeEmpty(storage_types_);
        part.Slice(storage, sel, n);
        TW_TRY(Put(part, out));
      }
    }
  }
  return {};
}

/// The chunks of all batches by number, with access to single rows.
struct TableWriter::Batches {
  std::vector<const DeltaChunk*> chunks;
  std::vector<uint32_t> first;  ///< ordinal of each chunk's first row
  uint32_t rows = 0;
  std::vector<std::vector<duckdb::UnifiedVectorFormat>> formats;

  std::pair<size_t, size_t> Find(uint32_t ordinal) const {
    size_t chunk = std::upper_bound(first.begin(), first.end(), ordinal) - first.begin() - 1;
    return {chunk, ordinal - first[chunk]};
  }
  const std::vector<duckdb::UnifiedVectorFormat>& Formats(size_t chunk) {
    auto& f = formats[chunk];
    if (f.empty()) {
      auto& rows = *chunks[chunk]->rows;
      f.resize(rows.ColumnCount());
      for (size_t c = 0; c < f.size(); c++) rows.data[c].ToUnifiedFormat(rows.size(), f[c]);
    }
    return f;
  }
  /// By bits, NULL equal to NULL.
  bool RowsEqual(uint32_t a, uint32_t b) {
    auto [chunk_a, row_a] = Find(a);
    auto [chunk_b, row_b] = Find(b);
    Formats(chunk_a);
    Formats(chunk_b);
    auto& fa = formats[chunk_a];
    auto& fb = formats[chunk_b];
    for (size_t c = 0; c < fa.size(); c++) {
      auto ia = fa[c].sel->get_index(row_a), ib = fb[c].sel->get_index(row_b);
      bool va = fa[c].validity.RowIsValid(ia), vb = fb[c].validity.RowIsValid(ib);
      if (va != vb) return false;
      if (!va) continue;
      auto& type = chunks[chunk_a]->rows->data[c].GetType();
      auto physical = type.InternalType();
      if (physical == duckdb::PhysicalType::VARCHAR) {
        if (duckdb::UnifiedVectorFormat::GetData<duckdb::string_t>(fa[c])[ia] !=
            duckdb::UnifiedVectorFormat::GetData<duckdb::string_t>(fb[c])[ib])
          return false;
      } else if (duckdb::TypeIsConstantSize(physical)) {
        size_t width = duckdb::GetTypeIdSize(physical);
        if (std::memcmp(fa[c].data + ia * width, fb[c].data + ib * width, width) != 0) return false;
      } else if (!duckdb::Value::NotDistinctFrom(chunks[chunk_a]->rows->GetValue(c, row_a),
                                                 chunks[chunk_b]->rows->GetValue(c, row_b))) {
        return false;
      }
    }
    return true;
  }
};

Status TableWriter::WriteConsolidated(std::span<const DeltaBatch* const> rows, Output& out) {
  Batches all;
  uint64_t total = 0;
  for (auto* batch : rows) {
    for (auto& chunk : batch->chunks) {
      if (chunk.size() == 0) continue;
      all.chunks.push_back(&chunk);
      all.first.push_back(total);
      total += chunk.size();
    }
  }
  TW_CHECK_LT(total, uint64_t(~0u));
  all.rows = total;
  all.formats.resize(all.chunks.size());

  // Which deltas touch the same key: chains of ordinals, newest first.
  constexpr uint32_t kEnd = ~0u;
  struct Entry {
    uint32_t newest = kEnd;
    uint32_t deltas = 0;
  };
  std::vector<Entry> entries;
  std::vector<uint32_t> older(total, kEnd);
  KeyIndex touched(codec_.is_integer());
  touched.Reserve(total / 2);
  std::vector<uint32_t> key_positions(key_columns_.size());
  for (size_t i = 0; i < key_positions.size(); i++) key_positions[i] = i;
  for (size_t c = 0; c < all.chunks.size(); c++) {
    auto& source = *all.chunks[c]->rows;
    DataChunk keys;
    keys.InitializeEmpty(key_types_);
    for (size_t k = 0; k < key_columns_.size(); k++) {
      auto& column = columns_[key_columns_[k]];
      auto& vector = source.data[column.source];
      if (vector.GetType() == column.type) {
        keys.data[k].Reference(vector);
        continue;
      }
      try {
        duckdb::Vector cast(column.type, source.size());
        duckdb::VectorOperations::Cast(*connection_->context, vector, cast, source.size());
        keys.data[k].Reference(cast);
      } catch (const std::exception& e) {
        return std::unexpected(UserError("22003", "a key does not fit its Iceberg type: {}", DuckMessage(e)));
      }
    }
    keys.SetCardinality(source.size());
    codec_.Encode(keys, key_positions, &out.keys);
    for (size_t i = 0; i < source.size(); i++) {
      if (i + kAhead < source.size()) touched.Prefetch(out.keys, i + kAhead);
      if (all.chunks[c]->weight(i) == 0) continue;
      auto* slot = touched.FindOrAdd(out.keys, i);
      if (!slot->valid()) {
        *slot = {0, uint32_t(entries.size())};
        entries.emplace_back();
      }
      auto& entry = entries[slot->position];
      uint32_t ordinal = all.first[c] + i;
      older[ordinal] = entry.newest;
      entry.newest = ordinal;
      entry.deltas++;
    }
  }

  // What is left of each key: nothing, a row to put, or a deletion.
  enum : uint8_t { kNothing, kPut, kDelete };
  std::vector<uint8_t> outcome(total, kNothing);
  auto weight_of = [&](uint32_t ordinal) {
    auto [chunk, row] = all.Find(ordinal);
    return all.chunks[chunk]->weight(row);
  };
  struct Left {
    uint32_t ordinal;
    int64_t weight;
  };
  std::vector<uint32_t> chain;
  std::vector<Left> left;
  for (auto& entry : entries) {
    chain.clear();
    for (uint32_t at = entry.newest; at != kEnd; at = older[at]) chain.push_back(at);
    left.clear();
    // Oldest first. An undone row is most often the one just before, so that even a key with many changes is cheap.
    for (size_t n = chain.size(); n-- > 0;) {
      int64_t weight = weight_of(chain[n]);
      for (size_t l = left.size(); l-- > 0 && weight != 0;) {
        if ((left[l].weight > 0) == (weight > 0) || !all.RowsEqual(left[l].ordinal, chain[n])) continue;
        int64_t sum = left[l].weight + weight;
        if (sum == 0 || (sum > 0) != (left[l].weight > 0)) {
          left.erase(left.begin() + l);
          weight = sum;
        } else {
          left[l].weight = sum;
          weight = 0;
        }
      }
      if (weight != 0) left.push_back({chain[n], weight});
    }
    int64_t plus = 0;
    uint32_t row = kEnd;
    for (auto& l : left) {
      if (l.weight <= 0) continue;
      plus += l.weight;
      row = l.ordinal;
    }
    if (plus == 1) {
      outcome[row] = kPut;
    } else if (plus == 0) {
      if (!left.empty()) outcome[left[0].ordinal] = kDelete;
    } else {
      auto [chunk, i] = all.Find(row);
      std::vector<uint32_t> sources;
      for (auto k : key_columns_) sources.push_back(columns_[k].source);
      return std::unexpected(UserError("23505", "the sink's primary key is not unique: {} rows have the key {}", plus,
                                       KeyCodec::Describe(*all.chunks[chunk]->rows, sources, i))
                                 .WithHint("Name the columns that identify a row of the view in primary_key."));
    }
  }
  touched.Clear();
  entries = {};
  older = {};

  out.expected_rows = std::count(outcome.begin(), outcome.end(), uint8_t(kPut));
  for (size_t c = 0; c < all.chunks.size(); c++) {
    auto& source = *all.chunks[c]->rows;
    duckdb::SelectionVector put(STANDARD_VECTOR_SIZE), removed(STANDARD_VECTOR_SIZE);
    size_t put_count = 0, removed_count = 0;
    for (size_t i = 0; i < source.size(); i++) {
      auto o = outcome[all.first[c] + i];
      if (o == kPut) put.set_index(put_count++, i);
      if (o == kDelete) removed.set_index(removed_count++, i);
    }
    if (put_count == 0 && removed_count == 0) continue;
    DataChunk storage;
    TW_TRY(ToStorage(source, &storage));
    if (removed_count > 0) {
      DataChunk part;
      part.InitializeEmpty(storage_types_);
      part.Slice(storage, removed, removed_count);
      codec_.Encode(part, key_columns_, &out.keys);
      for (size_t i = 0; i < removed_count; i++) {
        auto location = index_.Remove(out.keys, i);
        if (!location.valid()) continue;
        files_[location.file].live_rows--;
        out.deletes[location.file].push_back(location.position);
      }
    }
    if (put_count == source.size()) {
      TW_TRY(Put(storage, out));
    } else if (put_count > 0) {
      DataChunk part;
      part.InitializeEmpty(storage_types_);
      part.Slice(storage, put, put_count);
      TW_TRY(Put(part, out));
    }
  }
  return {};
}

void TableWriter::RetireFile(uint32_t id, Output& out) {
  auto& file = files_[id];
  out.change.removed_data.push_back({file.path, {}});
  for (auto g : file.grouped) {
    auto& grouped = grouped_deletes_[g];
    if (!grouped.file || --grouped.live_files > 0) continue;
    out.change.removed_deletes.push_back({grouped.file->path, {}});
    grouped.file = nullptr;
    free_grouped_.push_back(g);
  }
  file = LiveFile();
  free_files_.push_back(id);
}

uint32_t TableWriter::NewFile(std::string path) {
  if (free_files_.empty()) {
    free_files_.push_back(files_.size());
    files_.emplace_back();
    TW_CHECK_LT(files_.size(), size_t(RowLocation::kNone));
  }
  uint32_t id = free_files_.back();
  free_files_.pop_back();
  files_[id].path = std::move(path);
  return id;
}

uint32_t TableWriter::NewGroupedDelete(GroupedDelete grouped) {
  if (free_grouped_.empty()) {
    free_grouped_.push_back(grouped_deletes_.size());
    grouped_deletes_.emplace_back();
  }
  uint32_t g = free_grouped_.back();
  free_grouped_.pop_back();
  grouped_deletes_[g] = std::move(grouped);
  return g;
}

Status TableWriter::WriteDeletes(Output& out) {
  std::vector<uint32_t> ids;
  for (auto it = out.deletes.begin(); it != out.deletes.end();) {
    uint32_t id = it->first;
    bool is_new = std::find(out.new_files.begin(), out.new_files.end(), id) != out.new_files.end();
    if (files_[id].live_rows == 0 && !is_new) {
      RetireFile(id, out);
      it = out.deletes.erase(it);
    } else {
      ids.push_back(id);
      ++it;
    }
  }
  if (ids.empty()) return {};
  return format_version_ >= 3 ? WriteVectors(out, ids) : WritePositionDeletes(out, std::move(ids));
}

Status TableWriter::WriteVectors(Output& out, const std::vector<uint32_t>& ids) {
  iceberg::PuffinWriter puffin;
  std::string path = out.NextPath("deletes-") + ".puffin";
  size_t first = out.change.added_deletes.size();
  for (auto id : ids) {
    auto& file = files_[id];
    if (!file.deleted) file.deleted = std::make_unique<iceberg::PositionSet>();
    auto& positions = out.deletes[id];
    file.deleted->AddMany(positions.data(), positions.size());
    auto blob = puffin.AddDeletionVector(*file.deleted, file.path);
    iceberg::DataFile vector;
    vector.content = iceberg::FileContent::kPositionDeletes;
    vector.path = path;
    vector.format = "puffin";
    vector.record_count = file.deleted->Cardinality();
    vector.referenced_data_file = file.path;
    vector.content_offset = blob.offset;
    vector.content_size_bytes = blob.length;
    out.change.added_deletes.push_back(std::move(vector));
  }
  auto bytes = puffin.Finish({{"created-by", "Tidewater"}});
  for (size_t i = first; i < out.change.added_deletes.size(); i++)
    out.change.added_deletes[i].file_size_bytes = bytes.size();
  return PutWithRetries(out.files, path, bytes, options_.put_retries);
}

Status TableWriter::MergePositionDeletes(Output& out, std::vector<uint32_t>* ids) {
  // Sizes grow by 8 from tier to tier: a position is written again once a tier, and a reader meets few files of each.
  // What would cost a commit its second is left to the maintenance of the table.
  constexpr int64_t kSmallest = 4096, kLargest = 1 << 20;
  auto tier = [](int64_t records) {
    int t = 0;
    for (int64_t limit = kSmallest; records >= limit; limit *= 8) t++;
    return t;
  };
  if (options_.merge_deletes <= 0) return {};
  int64_t total = 0;
  for (auto id : *ids) total += out.deletes[id].size();
  std::unordered_map<std::string_view, uint32_t> by_path;
  for (;;) {
    std::vector<uint32_t> members;
    int64_t records = total;
    for (uint32_t g = 0; g < grouped_deletes_.size(); g++) {
      auto& file = grouped_deletes_[g].file;
      if (!file || tier(file->record_count) > tier(total)) continue;
      members.push_back(g);
      records += file->record_count;
    }
    if (members.size() + 1 < size_t(options_.merge_deletes) || records > kLargest) return {};
    if (by_path.empty())
      for (uint32_t id = 0; id < files_.size(); id++)
        if (!files_[id].path.empty()) by_path[files_[id].path] = id;
    lake::DeleteReader reader(out.files);
    for (auto g : members) {
      auto& grouped = grouped_deletes_[g];
      TW_ASSIGN(auto* positions, reader.Load(*grouped.file));
      for (auto& [path, set] : *positions) {
        auto it = by_path.find(path);
        if (it == by_path.end()) continue;
        auto [entry, fresh] = out.deletes.try_emplace(it->second);
        if (fresh) ids->push_back(it->second);
        auto more = set.ToVector();
        total += more.size();
        entry->second.insert(entry->second.end(), more.begin(), more.end());
      }
      out.change.removed_deletes.push_back({grouped.file->path, {}});
      grouped.file = nullptr;
    }
    for (auto& file : files_)
      std::erase_if(file.grouped, [&](uint32_t g) { return grouped_deletes_[g].file == nullptr; });
    free_grouped_.insert(free_grouped_.end(), members.begin(), members.end());
  }
}

Status TableWriter::WritePositionDeletes(Output& out, std::vector<uint32_t> ids) {
  TW_TRY(MergePositionDeletes(out, &ids));
  std::sort(ids.begin(), ids.end(), [&](auto a, auto b) { return files_[a].path < files_[b].path; });
  ParquetOptions options;
  options.truncate_bounds = false;
  for (auto id : ids) options.expected_rows += out.deletes[id].size();
  TW_ASSIGN(auto writer, ParquetFile::Create(PositionDeleteColumns(), options));
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), {LogicalType::VARCHAR, LogicalType::BIGINT});
  auto* paths = duckdb::FlatVector::GetData<duckdb::string_t>(chunk.data[0]);
  auto* positions = duckdb::FlatVector::GetData<int64_t>(chunk.data[1]);
  size_t n = 0;
  auto flush = [&]() -> Status {
    chunk.SetCardinality(n);
    n = 0;
    return writer->Append(chunk);
  };
  for (auto id : ids) {
    auto& deleted = out.deletes[id];
    std::sort(deleted.begin(), deleted.end());
    deleted.erase(std::unique(deleted.begin(), deleted.end()), deleted.end());
    auto& path = files_[id].path;
    duckdb::string_t text(path.data(), path.size());  // the vector does not own it; Append() copies
    for (auto position : deleted) {
      paths[n] = text;
      positions[n] = position;
      if (++n == STANDARD_VECTOR_SIZE) TW_TRY(flush());
    }
  }
  if (n > 0) TW_TRY(flush());
  TW_ASSIGN(auto finished, writer->Finish());
  auto& file = finished.file;
  file.content = iceberg::FileContent::kPositionDeletes;
  file.path = out.NextPath("deletes-") + ".parquet";
  // The bounds of file_path are whole, so a reader sees what a file for one data file is for; referenced_data_file
  // stays empty all the same, because such a file could not be merged later.
  auto g = NewGroupedDelete({std::make_shared<iceberg::DataFile>(file), uint32_t(ids.size())});
  for (auto id : ids) files_[id].grouped.push_back(g);
  std::string path = file.path;
  out.change.added_deletes.push_back(std::move(file));
  return PutWithRetries(out.files, path, finished.bytes, options_.put_retries);
}

Result<iceberg::TableChange> TableWriter::Prepare(const iceberg::Table& table, std::span<const DeltaBatch* const> rows,
                                                  const std::string& file_prefix) {
  Output out{*table.files, DataLocation(*table.metadata), file_prefix, 0, {}, nullptr, 0, {}, 0, {}, {}};
  bool inserts_only = true;
  for (auto* batch : rows) {
    for (auto& chunk : batch->chunks) {
      inserts_only &= chunk.all_inserts();
      out.expected_rows += chunk.size();
    }
  }
  auto write = [&]() -> Status {
    if (!options_.upsert) {
      TW_TRY(WriteAppendOnly(rows, out));
    } else if (inserts_only) {
      TW_TRY(WriteInserts(rows, out));
    } else {
      TW_TRY(WriteConsolidated(rows, out));
    }
    TW_TRY(FinishFile(out));
    return WriteDeletes(out);
  };
  auto status = write();
  if (!status) {
    Abandon(table, out.change);
    return std::unexpected(std::move(status).error());
  }
  if (!dangling_deletes_.empty() && !(out.change.added_data.empty() && out.change.added_deletes.empty())) {
    auto& removed = out.change.removed_deletes;
    removed.insert(removed.end(), dangling_deletes_.begin(), dangling_deletes_.end());
    dangling_deletes_.clear();
  }
  // Only the index needs the files of a writer that keeps one.
  if (!options_.upsert) {
    files_.clear();
    free_files_.clear();
  }
  return std::move(out.change);
}

void TableWriter::Abandon(const iceberg::Table& table, const iceberg::TableChange& change) {
  std::vector<std::string> locations;
  for (auto& f : change.added_data) locations.push_back(f.path);
  for (auto& f : change.added_deletes)
    if (locations.empty() || locations.back() != f.path) locations.push_back(f.path);
  table.files->DeleteAll(locations);
}

}  // namespace tidewater::lake
