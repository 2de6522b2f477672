#include "tidewater/iceberg/scan.h"
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include "tidewater/iceberg/puffin.h"

namespace tidewater::iceberg {
namespace {

constexpr int kDeleteFilePathField = 2147483546;

const std::string* FindBound(const ColumnBounds& bounds, int id) {
  for (const auto& [field, value] : bounds) {
    if (field == id) return &value;
  }
  return nullptr;
}

/// The one data file that a position delete file is about, when it says so or when its bounds do.
std::string ReferencedFile(const DataFile& f) {
  if (!f.referenced_data_file.empty()) return f.referenced_data_file;
  const std::string* lower = FindBound(f.lower_bounds, kDeleteFilePathField);
  const std::string* upper = FindBound(f.upper_bounds, kDeleteFilePathField);
  return lower && upper && *lower == *upper ? *lower : std::string();
}

std::string PartitionKey(const DataFile& f) {
  std::string key = std::to_string(f.spec_id);
  for (const auto& v : f.partition) {
    key += v ? fmt::format("|{}:", v->size()) : "|-";
    if (v) key += *v;
  }
  return key;
}

bool MayName(const DataFile& deletes, const std::string& path) {
  const std::string* lower = FindBound(deletes.lower_bounds, kDeleteFilePathField);
  const std::string* upper = FindBound(deletes.upper_bounds, kDeleteFilePathField);
  return !(lower && path < *lower) && !(upper && path > *upper);
}

struct Deletes {
  std::unordered_map<std::string, DeleteFile> vectors;                    // by data file
  std::unordered_map<std::string, std::vector<DeleteFile>> of_file;       // by data file
  std::unordered_map<std::string, std::vector<DeleteFile>> of_partition;  // by PartitionKey
  std::unordered_map<std::string, std::vector<DeleteFile>> equality;      // by PartitionKey
  std::vector<DeleteFile> equality_everywhere;

  Status Add(const ManifestEntry& e, const TableMetadata& metadata) {
    DeleteFile d{e.file, *e.sequence_number};
    if (e.file->IsDeletionVector()) {
      if (!vectors.emplace(e.file->referenced_data_file, d).second)
        return std::unexpected(
            EnvError(ErrorKind::kCorrupt, "two deletion vectors for {}", e.file->referenced_data_file));
    } else if (e.file->content == FileContent::kEqualityDeletes) {
      const PartitionSpec* spec = metadata.FindSpec(e.file->spec_id);
      if (!spec || spec->IsUnpartitioned())
        equality_everywhere.push_back(std::move(d));
      else
        equality[PartitionKey(*e.file)].push_back(std::move(d));
    } else if (std::string path = ReferencedFile(*e.file); !path.empty()) {
      of_file[path].push_back(std::move(d));
    } else {
      of_partition[PartitionKey(*e.file)].push_back(std::move(d));
    }
    return {};
  }

  void Apply(FileScanTask* task) const {
    const DataFile& f = *task->file;
    if (auto v = vectors.find(f.path); v != vectors.end() && v->second.sequence_number >= task->sequence_number) {
      task->deletes.push_back(v->second);
    } else {
      if (auto it = of_file.find(f.path); it != of_file.end()) {
        for (const DeleteFile& d : it->second) {
          if (d.sequence_number >= task->sequence_number) task->deletes.push_back(d);
        }
      }
      if (!of_partition.empty()) {
        if (auto it = of_partition.find(PartitionKey(f)); it != of_partition.end()) {
          for (const DeleteFile& d : it->second) {
            if (d.sequence_number >= task->sequence_number && MayName(*d.file, f.path)) task->deletes.push_back(d);
          }
        }
      }
    }
    for (const DeleteFile& d : equality_everywhere) {
      if (d.sequence_number > task->sequence_number) task->equality_deletes.push_back(d);
    }
    if (!equality.empty()) {
      if (auto it = equality.find(PartitionKey(f)); it != equality.end()) {
        for (const DeleteFile& d : it->second) {
          if (d.sequence_number > task->sequence_number) task->equality_deletes.push_back(d);
        }
      }
    }
  }
};

}  // namespace

Result<std::vector<FileScanTask>> PlanScan(FileAccess& files, const TableMetadata& metadata, const Snapshot& snapshot) {
  TW_ASSIGN(FileAccess::ManifestList list, ReadManifestList(files, snapshot));
  Deletes deletes;
  std::vector<FileScanTask> tasks;
  for (bool is_deletes : {true, false}) {
    for (const ManifestFile& m : *list) {
      if (m.is_deletes != is_deletes || !m.HasLiveFiles()) continue;
      TW_ASSIGN(FileAccess::Manifest entries, ReadManifest(files, m));
      for (const ManifestEntry& e : *entries) {
        if (!e.IsLive()) continue;
        if (is_deletes) {
          TW_TRY(deletes.Add(e, metadata));
          continue;
        }
        FileScanTask task;
        task.file = e.file;
        task.sequence_number = *e.sequence_number;
        task.snapshot_id = *e.snapshot_id;
        deletes.Apply(&task);
        tasks.push_back(std::move(task));
      }
    }
  }
  return tasks;
}

Result<SnapshotDelta> SnapshotsSince(const TableMetadata& metadata, int64_t head, std::optional<int64_t> ancestor) {
  SnapshotDelta delta;
  std::set<int64_t> seen;
  std::optional<int64_t> at = head;
  while (at != ancestor) {
    const Snapshot* s = at ? metadata.FindSnapshot(*at) : nullptr;
    if (!s || !seen.insert(s->id).second)
      return std::unexpected(EnvError(ErrorKind::kNotFound,
                                      "snapshot {} is no ancestor of snapshot {} in the table's history",
                                      ancestor ? std::to_string(*ancestor) : "none", head));
    delta.snapshots.insert(delta.snapshots.begin(), *s);
    at = s->parent_id;
  }
  return delta;
}

Result<SnapshotChanges> ChangesOf(FileAccess& files, const Snapshot& snapshot) {
  TW_ASSIGN(FileAccess::ManifestList list, ReadManifestList(files, snapshot));
  SnapshotChanges out;
  for (const ManifestFile& m : *list) {
    if (m.added_snapshot_id != snapshot.id) continue;
    TW_ASSIGN(FileAccess::Manifest entries, ReadManifest(files, m));
    for (const ManifestEntry& e : *entries) {
      if (e.snapshot_id != snapshot.id || e.status == EntryStatus::kExisting) continue;
      if (m.is_deletes)
        (e.IsLive() ? out.added_deletes : out.removed_deletes).push_back(e);
      else
        (e.IsLive() ? out.added_data : out.removed_data).push_back(e);
    }
  }
  return out;
}

Result<PositionSet> ReadDeletionVector(FileAccess& files, const DataFile& vector) {
  if (!vector.content_offset || !vector.content_size_bytes || *vector.content_offset < 0 ||
      *vector.content_size_bytes < 0 || *vector.content_size_bytes > vector.file_size_bytes ||
      *vector.content_size_bytes > INT32_MAX)
    return std::unexpected(
        EnvError(ErrorKind::kCorrupt, "the place of a deletion vector in {} is missing or wrong", vector.path));
  TW_ASSIGN(std::string blob,
            files.GetRange(vector.path, uint64_t(*vector.content_offset), uint64_t(*vector.content_size_bytes)));
  TW_ASSIGN(PositionSet positions, PositionSet::FromBlob(blob));
  if (int64_t(positions.Cardinality()) != vector.record_count)
    return std::unexpected(EnvError(ErrorKind::kCorrupt,
                                    "a deletion vector of {} positions in {}, where the manifest says {}",
                                    positions.Cardinality(), vector.path, vector.record_count));
  return positions;
}

}  // namespace tidewater::iceberg
