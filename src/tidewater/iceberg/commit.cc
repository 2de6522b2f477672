#include "tidewater/iceberg/commit.h"
#include <algorithm>
#include <charconv>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"

namespace tidewater::iceberg {
namespace {

constexpr int64_t kTargetSizeDefault = 8 << 20;
constexpr int64_t kMinCountToMergeDefault = 100;
constexpr size_t kEntriesPerNewManifest = 10000;
/// What an entry takes in a manifest, before it is known.
constexpr int64_t kEntrySizeGuess = 150;

/// A manifest of the new snapshot: one that stays as it is, or entries that are to be written.
struct Planned {
  ManifestFile kept;  ///< when entries is empty
  std::vector<ManifestEntry> entries;
  bool is_deletes = false;
  int spec_id = 0;
  int64_t size_guess = 0;
  bool IsKept() const { return entries.empty(); }
};

struct Counters {
  int64_t added_data = 0, added_records = 0, added_size = 0;
  int64_t removed_data = 0, removed_records = 0, removed_size = 0;
  int64_t added_delete_files = 0, added_position_files = 0, added_vectors = 0, added_position_deletes = 0;
  int64_t added_equality_files = 0, added_equality_deletes = 0;
  int64_t removed_delete_files = 0, removed_position_files = 0, removed_vectors = 0, removed_position_deletes = 0;
  int64_t removed_equality_files = 0, removed_equality_deletes = 0;
  std::set<std::pair<int, PartitionTuple>> partitions;

  static int64_t Size(const DataFile& f) {
    return f.IsDeletionVector() ? f.content_size_bytes.value_or(0) : f.file_size_bytes;
  }

  void Added(const DataFile& f) {
    partitions.emplace(f.spec_id, f.partition);
    added_size += Size(f);
    if (f.content == FileContent::kData) {
      ++added_data;
      added_records += f.record_count;
    } else if (f.content == FileContent::kEqualityDeletes) {
      ++added_delete_files, ++added_equality_files;
      added_equality_deletes += f.record_count;
    } else {
      ++added_delete_files;
      ++(f.IsDeletionVector() ? added_vectors : added_position_files);
      added_position_deletes += f.record_count;
    }
  }

  void Removed(const DataFile& f) {
    partitions.emplace(f.spec_id, f.partition);
    removed_size += Size(f);
    if (f.content == FileContent::kData) {
      ++removed_data;
      removed_records += f.record_count;
    } else if (f.content == FileContent::kEqualityDeletes) {
      ++removed_delete_files, ++removed_equality_files;
      removed_equality_deletes += f.record_count;
    } else {
      ++removed_delete_files;
      ++(f.IsDeletionVector() ? removed_vectors : removed_position_files);
      removed_position_deletes += f.record_count;
    }
  }

  std::string Operation() const {
    if (added_data > 0 && added_delete_files == 0 && removed_data == 0 && removed_delete_files == 0) return "append";
    if (added_data == 0 && (removed_data > 0 || added_delete_files > 0)) return "delete";
    if (added_data == 0 && removed_delete_files == 0) return "append";
    return "overwrite";
  }

  /// Spec, appendix F; totals follow the parent's where it has them.
  void ToSummary(const Snapshot* parent, Properties* out) const {
    auto put = [&](const char* key, int64_t v) {
      if (v > 0) (*out)[key] = std::to_string(v);
    };
    put("added-data-files", added_data);
    put("added-records", added_records);
    put("added-files-size", added_size);
    put("deleted-data-files", removed_data);
    put("deleted-records", removed_records);
    put("removed-files-size", removed_size);
    put("added-delete-files", added_delete_files);
    put("added-position-delete-files", added_position_files);
    put("added-dvs", added_vectors);
    put("added-position-deletes", added_position_deletes);
    put("added-equality-delete-files", added_equality_files);
    put("added-equality-deletes", added_equality_deletes);
    put("removed-delete-files", removed_delete_files);
    put("removed-position-delete-files", removed_position_files);
    put("removed-dvs", removed_vectors);
    put("removed-position-deletes", removed_position_deletes);
    put("removed-equality-delete-files", removed_equality_files);
    put("removed-equality-deletes", removed_equality_deletes);
    (*out)["changed-partition-count"] = std::to_string(partitions.size());
    auto total = [&](const char* key, int64_t change) {
      int64_t before = 0;
      if (parent) {
        auto it = parent->summary.find(key);
        if (it == parent->summary.end()) return;
        const std::string& s = it->second;
        if (std::from_chars(s.data(), s.data() + s.size(), before).ec != std::errc()) return;
      }
      if (before + change >= 0) (*out)[key] = std::to_string(before + change);
    };
    total("total-data-files", added_data - removed_data);
    total("total-records", added_records - removed_records);
    total("total-files-size", added_size - removed_size);
    total("total-delete-files", added_delete_files - removed_delete_files);
    total("total-position-deletes", added_position_deletes - removed_position_deletes);
    total("total-equality-deletes", added_equality_deletes - removed_equality_deletes);
  }
};

/// What a commit takes out, and whether it was all there.
class Removals {
 public:
  explicit Removals(const TableChange& change) {
    for (const FileKey& k : change.removed_data) data_.emplace(k.path, false);
    for (const FileKey& k : change.removed_deletes) deletes_.emplace(k, false);
    for (const DataFile& f : change.added_deletes) {
      if (f.IsDeletionVector()) replaced_.insert(f.referenced_data_file);
    }
  }

  bool Touches(bool is_deletes) const {
    return !data_.empty() || (is_deletes && (!deletes_.empty() || !replaced_.empty()));
  }

  bool Removes(const DataFile& f) {
    if (f.content == FileContent::kData) {
      auto it = data_.find(f.path);
      if (it == data_.end()) return false;
      it->second = true;
      return true;
    }
    if (!deletes_.empty()) {
      if (auto it = deletes_.find(FileKey::Of(f)); it != deletes_.end()) {
        it->second = true;
        return true;
      }
    }
    if (f.content != FileContent::kPositionDeletes || f.referenced_data_file.empty()) return false;
    return replaced_.contains(f.referenced_data_file) || data_.contains(f.referenced_data_file);
  }

  Status AllFound() const {
    for (const auto& [path, found] : data_) {
      if (!found)
        return std::unexpected(EnvError(ErrorKind::kConflict, "data file {} is not in the table any more", path));
    }
    for (const auto& [key, found] : deletes_) {
      if (!found)
        return std::unexpected(EnvError(ErrorKind::kConflict, "delete file {} is not in the table any more", key.path));
    }
    return {};
  }

 private:
  std::unordered_map<std::string, bool> data_;
  std::map<FileKey, bool> deletes_;
  std::unordered_set<std::string> replaced_;
};

/// Builds the manifests of one new snapshot.
class SnapshotBuilder {
 public:
  SnapshotBuilder(const Table& base, const TableMetadata& metadata, const TableChange& change, int64_t snapshot_id)
      : files_(*base.files),
        metadata_(metadata),
        change_(change),
        snapshot_id_(snapshot_id),
        sequence_number_(metadata.last_sequence_number + 1) {
    auto path = metadata.properties.find("write.metadata.path");
    folder_ = path != metadata.properties.end() ? path->second : metadata.location + "/metadata";
  }

  Status Build(const Snapshot* parent) {
    TW_TRY(CheckAdded());
    std::vector<Planned> planned;
    TW_TRY(PlanAdded(change_.added_data, false, &planned));
    TW_TRY(PlanAdded(change_.added_deletes, true, &planned));
    if (parent) TW_TRY(PlanParent(*parent, &planned));
    TW_TRY(WriteAll(Merge(std::move(planned))));
    return {};
  }

  Status WriteList(const Snapshot& snapshot) {
    std::string bytes = EncodeManifestList(manifests_, snapshot, metadata_.format_version);
    TW_TRY(files_.Put(snapshot.manifest_list, bytes));
    written_.push_back(snapshot.manifest_list);
    files_.CacheList(snapshot.manifest_list, std::make_shared<const std::vector<ManifestFile>>(manifests_));
    return {};
  }

  std::string ListLocation() const { return fmt::format("{}/snap-{}-1-{}.avro", folder_, snapshot_id_, uuid_); }
  int64_t sequence_number() const { return sequence_number_; }
  int64_t rows_assigned() const { return next_row_id_ - metadata_.next_row_id; }
  const Counters& counters() const { return counters_; }
  const std::vector<std::string>& written() const { return written_; }
  /// By path, of added data files.
  const std::unordered_map<std::string, int64_t>& row_ids() const { return row_ids_; }

 private:
  Status CheckAdded() {
    for (const DataFile& f : change_.added_data) {
      if (f.content != FileContent::kData)
        return std::unexpected(EnvError(ErrorKind::kInternal, "{} is no data file", f.path));
    }
    std::unordered_set<std::string> vectors;
    for (const DataFile& f : change_.added_deletes) {
      if (f.content == FileContent::kData)
        return std::unexpected(EnvError(ErrorKind::kInternal, "{} is no delete file", f.path));
      if (f.IsDeletionVector()) {
        if (metadata_.format_version < 3)
          return std::unexpected(EnvError(ErrorKind::kUnsupported, "deletion vectors need format version 3"));
        if (f.referenced_data_file.empty() || !f.content_offset || !f.content_size_bytes)
          return std::unexpected(
              EnvError(ErrorKind::kInternal, "a deletion vector without its place or its data file in {}", f.path));
        if (!vectors.insert(f.referenced_data_file).second)
          return std::unexpected(EnvError(ErrorKind::kInternal, "two deletion vectors for {}", f.referenced_data_file));
      } else if (f.content == FileContent::kPositionDeletes && metadata_.format_version >= 3) {
        return std::unexpected(
            EnvError(ErrorKind::kUnsupported,
                     "new position delete files are not allowed in format version 3: use deletion vectors"));
      }
    }
    return {};
  }

  Status PlanAdded(const std::vector<DataFile>& added, bool is_deletes, std::vector<Planned>* out) {
    std::map<int, std::vector<ManifestEntry>> by_spec;
    for (const DataFile& f : added) {
      if (!metadata_.FindSpec(f.spec_id))
        return std::unexpected(
            EnvError(ErrorKind::kInternal, "partition spec {} of {} does not exist", f.spec_id, f.path));
      counters_.Added(f);
      ManifestEntry e;
      e.status = EntryStatus::kAdded;
      e.snapshot_id = snapshot_id_;
      if (!is_deletes) e.sequence_number = change_.data_sequence_number;
      auto file = std::make_shared<DataFile>(f);
      file->first_row_id.reset();
      e.file = std::move(file);
      by_spec[f.spec_id].push_back(std::move(e));
    }
    for (auto& [spec_id, entries] : by_spec) {
      for (size_t from = 0; from < entries.size(); from += kEntriesPerNewManifest) {
        Planned p;
        size_t to = std::min(entries.size(), from + kEntriesPerNewManifest);
        p.entries.assign(std::make_move_iterator(entries.begin() + std::ptrdiff_t(from)),
                         std::make_move_iterator(entries.begin() + std::ptrdiff_t(to)));
        p.is_deletes = is_deletes;
        p.spec_id = spec_id;
        p.size_guess = int64_t(p.entries.size()) * kEntrySizeGuess;
        out->push_back(std::move(p));
      }
    }
    return {};
  }

  /// Manifests of the parent: as they are, or rewritten where something is removed from them.
  Status PlanParent(const Snapshot& parent, std::vector<Planned>* out) {
    TW_ASSIGN(FileAccess::ManifestList list, ReadManifestList(files_, parent));
    Removals removals(change_);
    for (const ManifestFile& m : *list) {
      if (!m.HasLiveFiles()) continue;
      Planned p;
      p.is_deletes = m.is_deletes;
      p.spec_id = m.spec_id;
      p.size_guess = m.length_bytes;
      if (removals.Touches(m.is_deletes)) {
        TW_ASSIGN(FileAccess::Manifest entries, ReadManifest(files_, m));
        std::vector<char> removed(entries->size());
        bool any = false;
        for (size_t i = 0; i < entries->size(); ++i) {
          const ManifestEntry& e = (*entries)[i];
          removed[i] = e.IsLive() && removals.Removes(*e.file);
          any |= removed[i] != 0;
        }
        if (any) {
          for (size_t i = 0; i < entries->size(); ++i) {
            if (!(*entries)[i].IsLive()) continue;
            ManifestEntry e = (*entries)[i];
            e.status = removed[i] ? EntryStatus::kDeleted : EntryStatus::kExisting;
            if (removed[i]) {
              e.snapshot_id = snapshot_id_;
              counters_.Removed(*e.file);
            }
            p.entries.push_back(std::move(e));
          }
        }
      }
      if (p.IsKept()) p.kept = m;
      out->push_back(std::move(p));
    }
    TW_TRY(removals.AllFound());
    return change_.check_referenced_files ? CheckReferenced(*list) : Status();
  }

  /// Looks for the data files that the added deletes are about, in the newest manifests first.
  Status CheckReferenced(const std::vector<ManifestFile>& list) {
    std::unordered_set<std::string> wanted;
    for (const DataFile& f : change_.added_deletes) {
      if (!f.referenced_data_file.empty()) wanted.insert(f.referenced_data_file);
    }
    for (const DataFile& f : change_.added_data) wanted.erase(f.path);
    std::unordered_set<std::string> removed;
    for (const FileKey& k : change_.removed_data) removed.insert(k.path);
    for (const ManifestFile& m : list) {
      if (wanted.empty()) return {};
      if (m.is_deletes || !m.HasLiveFiles()) continue;
      TW_ASSIGN(FileAccess::Manifest entries, ReadManifest(files_, m));
      for (const ManifestEntry& e : *entries) {
        if (e.IsLive() && !removed.contains(e.file->path)) wanted.erase(e.file->path);
      }
    }
    if (wanted.empty()) return {};
    return std::unexpected(
        EnvError(ErrorKind::kConflict, "data file {} of a new delete is not in the table any more", *wanted.begin()));
  }

  /// Packs manifests of one kind, oldest first, into bins of the target size. A bin of several becomes one manifest;
  /// the newest bin waits until it holds enough of them.
  std::vector<Planned> Merge(std::vector<Planned> planned) {
    if (!metadata_.BoolProperty(kPropManifestMergeEnabled, true)) return planned;
    int64_t target = std::max<int64_t>(1, metadata_.IntProperty(kPropManifestTargetSize, kTargetSizeDefault));
    size_t min_count =
        size_t(std::max<int64_t>(2, metadata_.IntProperty(kPropManifestMinCountToMerge, kMinCountToMergeDefault)));
    std::map<std::pair<bool, int>, std::vector<Planned>> groups;
    for (Planned& p : planned) groups[{p.is_deletes, p.spec_id}].push_back(std::move(p));
    std::vector<Planned> out;
    for (auto& [kind, group] : groups) {
      // `group` is newest first: bins are cut from its end.
      std::vector<Planned> merged;
      size_t end = group.size();
      std::vector<std::pair<size_t, size_t>> bins;
      while (end > 0) {
        size_t begin = end;
        int64_t size = 0;
        while (begin > 0 && (begin == end || size + group[begin - 1].size_guess <= target))
          size += group[--begin].size_guess;
        bins.emplace_back(begin, end);
        end = begin;
      }
      for (auto bin = bins.rbegin(); bin != bins.rend(); ++bin) {
        auto [begin, stop] = *bin;
        bool newest = begin == 0;
        if (stop - begin == 1 || (newest && stop - begin < min_count)) {
          for (size_t i = begin; i < stop; ++i) merged.push_back(std::move(group[i]));
          continue;
        }
        merged.push_back(Combine(group, begin, stop));
      }
      for (Planned& p : merged) out.push_back(std::move(p));
    }
    return out;
  }

  Planned Combine(std::vector<Planned>& group, size_t begin, size_t end) {
    Planned one;
    one.is_deletes = group[begin].is_deletes;
    one.spec_id = group[begin].spec_id;
    for (size_t i = begin; i < end; ++i) {
      Planned& p = group[i];
      if (!p.IsKept()) {
        for (ManifestEntry& e : p.entries) one.entries.push_back(std::move(e));
        continue;
      }
      auto entries = ReadManifest(files_, p.kept);
      if (!entries) {
        // Merging is a kindness to readers: without it the commit goes on.
        log::warn("iceberg: manifest {} is not merged: {}", p.kept.path, entries.error().message);
        unmerged_.push_back(p.kept);
        continue;
      }
      for (const ManifestEntry& e : **entries) {
        if (!e.IsLive()) continue;
        one.entries.push_back(e);
        one.entries.back().status = EntryStatus::kExisting;
      }
    }
    return one;
  }

  Status WriteAll(std::vector<Planned> planned) {
    next_row_id_ = metadata_.next_row_id;
    for (Planned& p : planned) {
      if (p.IsKept()) {
        if (p.kept.path.empty()) continue;  // everything in a merged bin turned out to be dead
        TW_TRY(Keep(std::move(p.kept)));
      } else {
        TW_TRY(Write(p));
      }
    }
    for (ManifestFile& m : unmerged_) TW_TRY(Keep(std::move(m)));
    return {};
  }

  Status Keep(ManifestFile m) {
    if (metadata_.format_version >= 3 && !m.is_deletes && !m.first_row_id) {
      // From before the table was v3.
      int64_t rows = m.added_rows + m.existing_rows;
      if (m.added_rows < 0 || m.existing_rows < 0) {
        TW_ASSIGN(FileAccess::Manifest entries, ReadManifest(files_, m));
        rows = 0;
        for (const ManifestEntry& e : *entries) rows += e.IsLive() ? e.file->record_count : 0;
      }
      m.first_row_id = next_row_id_;
      next_row_id_ += rows;
      files_.Forget(m.path);  // its entries have row ids from now on
    }
    manifests_.push_back(std::move(m));
    return {};
  }

  Status Write(Planned& p) {
    const PartitionSpec* spec = metadata_.FindSpec(p.spec_id);
    if (!spec)
      return std::unexpected(
          EnvError(ErrorKind::kCorrupt, "partition spec {} of a manifest does not exist", p.spec_id));
    TW_ASSIGN(EncodedManifest encoded,
              EncodeManifest(p.entries, p.is_deletes, metadata_.CurrentSchema(), *spec, metadata_.format_version));
    ManifestFile m = std::move(encoded.file);
    m.path = fmt::format("{}/{}-m{}.avro", folder_, uuid_, manifest_count_++);
    m.sequence_number = sequence_number_;
    m.added_snapshot_id = snapshot_id_;
    if (m.min_sequence_number == kInheritSequence) m.min_sequence_number = sequence_number_;
    if (metadata_.format_version >= 3 && !p.is_deletes) {
      m.first_row_id = next_row_id_;
      next_row_id_ += encoded.rows_without_id;
    }
    TW_TRY(files_.Put(m.path, encoded.bytes));
    written_.push_back(m.path);
    files_.CacheManifest(m.path, std::make_shared<const std::vector<ManifestEntry>>(Inherit(std::move(p.entries), m)));
    manifests_.push_back(std::move(m));
    return {};
  }

  /// Entries as a reader of the manifest will see them.
  std::vector<ManifestEntry> Inherit(std::vector<ManifestEntry> entries, const ManifestFile& m) {
    int64_t next = m.first_row_id.value_or(0);
    for (ManifestEntry& e : entries) {
      if (!e.sequence_number) e.sequence_number = m.sequence_number;
      if (!e.file_sequence_number) e.file_sequence_number = m.sequence_number;
      if (m.first_row_id && e.IsLive() && !e.file->first_row_id) {
        auto file = std::make_shared<DataFile>(*e.file);
        file->first_row_id = next;
        next += file->record_count;
        if (e.status == EntryStatus::kAdded) row_ids_[file->path] = *file->first_row_id;
        e.file = std::move(file);
      }
    }
    return entries;
  }

  FileAccess& files_;
  const TableMetadata& metadata_;
  const TableChange& change_;
  const int64_t snapshot_id_;
  const int64_t sequence_number_;
  const std::string uuid_ = NewUuid();
  std::string folder_;
  int manifest_count_ = 0;
  int64_t next_row_id_ = 0;
  Counters counters_;
  std::vector<ManifestFile> manifests_;
  std::vector<ManifestFile> unmerged_;
  std::vector<std::string> written_;
  std::unordered_map<std::string, int64_t> row_ids_;
};

/// `metadata` already holds the new snapshot at the head of its branch.
std::vector<Snapshot> FindExpired(const TableMetadata& metadata, const ExpirePolicy& policy, int64_t now_ms) {
  std::set<int64_t> kept;
  for (const auto& [name, ref] : metadata.refs) {
    kept.insert(ref.snapshot_id);
    if (name == "main" || !ref.is_branch) continue;
    std::optional<int64_t> at = ref.snapshot_id;
    while (const Snapshot* s = at ? metadata.FindSnapshot(*at) : nullptr) {
      kept.insert(s->id);
      at = s->parent_id;
    }
  }
  std::vector<Snapshot> out;
  std::set<int64_t> seen;
  int position = 0;
  const Snapshot* s = metadata.CurrentSnapshot();
  while (s && seen.insert(s->id).second) {
    bool ours = std::all_of(policy.only_with_summary.begin(), policy.only_with_summary.end(), [&](const auto& p) {
      auto it = s->summary.find(p.first);
      return it != s->summary.end() && it->second == p.second;
    });
    if (++position > std::max(policy.keep_last, 1) && s->timestamp_ms < now_ms - policy.max_age_ms && ours &&
        !kept.contains(s->id))
      out.push_back(*s);
    s = s->parent_id ? metadata.FindSnapshot(*s->parent_id) : nullptr;
  }
  return out;
}

}  // namespace

Result<PreparedCommit> PrepareCommit(const Table& base, const TableChange& change) {
  PreparedCommit prepared;
  prepared.base_ = base;
  prepared.added_data_count_ = change.added_data.size();
  prepared.request_.ident = base.ident;
  auto& updates = prepared.request_.updates;
  auto& requirements = prepared.request_.requirements;
  int64_t now_ms = WallMicros() / 1000;

  updates = change.metadata_updates;
  if (!change.set_properties.empty()) updates.push_back(SetProperties{change.set_properties});
  requirements = change.requirements;
  if (!base.metadata->table_uuid.empty()) requirements.push_back(AssertTableUuid{base.metadata->table_uuid});
  for (const MetadataUpdate& u : change.metadata_updates) {
    if (!std::holds_alternative<AddSchema>(u)) continue;
    requirements.push_back(AssertLastAssignedFieldId{base.metadata->last_column_id});
    requirements.push_back(AssertCurrentSchemaId{base.metadata->current_schema_id});
    break;
  }

  TableMetadata metadata = *base.metadata;
  TW_TRY(ApplyUpdates(updates, now_ms, &metadata));

  bool has_snapshot = change.force_snapshot || !change.added_data.empty() || !change.added_deletes.empty() ||
                      !change.removed_data.empty() || !change.removed_deletes.empty();
  if (has_snapshot) {
    if (metadata.format_version < 2)
      return std::unexpected(EnvError(ErrorKind::kUnsupported,
                                      "tables of format version 1 are not written: upgrade the table to version 2"));
    const Snapshot* parent = metadata.RefSnapshot(change.branch);
    prepared.snapshot_id_ = NewSnapshotId();
    while (metadata.FindSnapshot(prepared.snapshot_id_)) prepared.snapshot_id_ = NewSnapshotId();
    SnapshotBuilder builder(base, metadata, change, prepared.snapshot_id_);
    Snapshot snapshot;
    Status status = builder.Build(parent);
    if (status) {
      snapshot.id = prepared.snapshot_id_;
      if (parent) snapshot.parent_id = parent->id;
      snapshot.sequence_number = builder.sequence_number();
      snapshot.timestamp_ms = std::max(now_ms, metadata.last_updated_ms);
      snapshot.manifest_list = builder.ListLocation();
      snapshot.schema_id = metadata.current_schema_id;
      if (metadata.format_version >= 3) {
        snapshot.first_row_id = metadata.next_row_id;
        snapshot.added_rows = builder.rows_assigned();
      }
      builder.counters().ToSummary(parent, &snapshot.summary);
      for (const auto& [k, v] : change.summary) snapshot.summary[k] = v;
      snapshot.summary["operation"] = change.operation.empty() ? builder.counters().Operation() : change.operation;
      status = builder.WriteList(snapshot);
    }
    prepared.written_ = builder.written();
    if (!status) {
      base.files->DeleteAll(prepared.written_);
      return std::unexpected(std::move(status).error());
    }
    prepared.sequence_number_ = snapshot.sequence_number;
    if (metadata.format_version >= 3) {
      for (const DataFile& f : change.added_data) {
        auto it = builder.row_ids().find(f.path);
        TW_CHECK(it != builder.row_ids().end(), "no row id for {}", f.path);
        prepared.first_row_ids_.push_back(it->second);
      }
    }
    requirements.push_back(AssertRefSnapshotId{change.branch, snapshot.parent_id});
    SnapshotRef ref;
    if (auto it = metadata.refs.find(change.branch); it != metadata.refs.end()) ref = it->second;
    ref.snapshot_id = snapshot.id;
    std::vector<MetadataUpdate> own = {AddSnapshot{std::move(snapshot)}, SetSnapshotRef{change.branch, ref}};
    if (Status applied = ApplyUpdates(own, now_ms, &metadata); !applied) {
      base.files->DeleteAll(prepared.written_);
      return std::unexpected(std::move(applied).error());
    }
    for (MetadataUpdate& u : own) updates.push_back(std::move(u));
  }

  if (change.expire) {
    prepared.expired_ = FindExpired(metadata, *change.expire, now_ms);
    if (int(prepared.expired_.size()) < std::max(change.expire->batch, 1)) prepared.expired_.clear();
    if (!prepared.expired_.empty()) {
      RemoveSnapshots remove;
      for (const Snapshot& s : prepared.expired_) remove.ids.push_back(s.id);
      std::set<int64_t> gone(remove.ids.begin(), remove.ids.end());
      for (const auto* list : {&metadata.statistics, &metadata.partition_statistics}) {
        for (const StatisticsFile& f : *list) {
          if (gone.contains(f.snapshot_id)) prepared.expired_files_.push_back(f.path);
        }
      }
      updates.push_back(std::move(remove));
    }
  }
  return prepared;
}

Result<CommitResult> PreparedCommit::Commit(Catalog& catalog) {
  FaultPoint("iceberg.before_commit");
  auto table = catalog.Commit(request_);
  FaultPoint("iceberg.after_commit");
  if (!table) {
    if (table.error().kind != ErrorKind::kCommitStateUnknown) base_.files->DeleteAll(written_);
    return std::unexpected(std::move(table).error());
  }
  CommitResult result;
  result.table = *std::move(table);
  result.snapshot_id = snapshot_id_;
  result.sequence_number = sequence_number_;
  result.first_row_ids = first_row_ids_;
  if (!expired_.empty() && result.table.metadata->BoolProperty("gc.enabled", true)) {
    auto garbage = FindGarbage(*base_.files, *result.table.metadata, expired_);
    if (garbage) {
      result.garbage = *std::move(garbage);
      result.garbage.insert(result.garbage.end(), expired_files_.begin(), expired_files_.end());
    } else {
      log::warn("iceberg: files of expired snapshots of {} stay as orphans: {}", base_.ident.ToString(),
                garbage.error().message);
    }
  }
  return result;
}

Result<CommitResult> CommitChange(Catalog& catalog, const Table& base, const TableChange& change) {
  TW_ASSIGN(PreparedCommit prepared, PrepareCommit(base, change));
  TW_ASSIGN(CommitResult result, prepared.Commit(catalog));
  base.files->DeleteAll(result.garbage);
  return result;
}

Result<std::vector<std::string>> FindGarbage(FileAccess& files, const TableMetadata& remaining,
                                             const std::vector<Snapshot>& expired) {
  std::unordered_map<std::string, const ManifestFile*> reachable;
  std::vector<FileAccess::ManifestList> lists;  // what `reachable` points into
  std::unordered_set<std::string> live_lists;
  for (const Snapshot& s : remaining.snapshots) {
    TW_ASSIGN(FileAccess::ManifestList list, ReadManifestList(files, s));
    live_lists.insert(s.manifest_list);
    for (const ManifestFile& m : *list) reachable.emplace(m.path, &m);
    lists.push_back(std::move(list));
  }

  std::vector<std::string> garbage;
  std::unordered_map<std::string, const ManifestFile*> unreachable;
  for (const Snapshot& s : expired) {
    auto list = ReadManifestList(files, s);
    if (!list && list.error().kind == ErrorKind::kNotFound) continue;  // somebody else cleaned up
    if (!list) return std::unexpected(std::move(list).error());
    if (!s.manifest_list.empty() && !live_lists.contains(s.manifest_list)) garbage.push_back(s.manifest_list);
    for (const ManifestFile& m : **list) {
      if (!reachable.contains(m.path)) unreachable.emplace(m.path, &m);
    }
    lists.push_back(*std::move(list));
  }

  // Files that were live in a manifest that is gone; dead are those that no manifest left has live.
  struct Candidates {
    std::unordered_set<std::string> paths;
    std::set<int64_t> added_at;
    int64_t max_sequence = 0;
  } data, deletes;
  for (const auto& [path, m] : unreachable) {
    garbage.push_back(path);
    if (!m->HasLiveFiles()) continue;
    auto entries = ReadManifest(files, *m);
    if (!entries && entries.error().kind == ErrorKind::kNotFound) continue;
    if (!entries) return std::unexpected(std::move(entries).error());
    Candidates& c = m->is_deletes ? deletes : data;
    for (const ManifestEntry& e : **entries) {
      if (!e.IsLive()) continue;
      c.paths.insert(e.file->path);
      c.added_at.insert(*e.file_sequence_number);
      c.max_sequence = std::max(c.max_sequence, *e.sequence_number);
    }
  }
  for (const auto& [path, m] : reachable) {
    Candidates& c = m->is_deletes ? deletes : data;
    if (c.paths.empty() || !m->HasLiveFiles()) continue;
    // A manifest can only hold files added before it or with it, and none older than its oldest.
    if (m->sequence_number < *c.added_at.begin() || m->min_sequence_number > c.max_sequence) continue;
    if (m->existing_files == 0 && !c.added_at.contains(m->sequence_number)) continue;
    TW_ASSIGN(FileAccess::Manifest entries, ReadManifest(files, *m));
    for (const ManifestEntry& e : *entries) {
      if (e.IsLive()) c.paths.erase(e.file->path);
    }
  }
  for (const Candidates* c : {&data, &deletes}) garbage.insert(garbage.end(), c->paths.begin(), c->paths.end());
  return garbage;
}

}  // namespace tidewater::iceberg
