// One commit to a table: rows added and removed, schema, properties, and the house-keeping that every commit does
// (merging small manifests, expiring snapshots).
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/catalog.h"
#include "tidewater/iceberg/manifest.h"

namespace tidewater::iceberg {

/// Which snapshots of main's history a commit drops. The new snapshot, heads of branches, tags, and what another branch
/// retains stay.
struct ExpirePolicy {
  int keep_last = 100;                 ///< the newest of main, the new one included; at least 1
  int64_t max_age_ms = 5 * 60 * 1000;  ///< younger ones stay even beyond keep_last
  /// Only snapshots whose summary has all of these (so that we expire our own alone). Empty: any.
  Properties only_with_summary;
  /// Nothing is expired before this many can be: finding garbage costs a look at the manifests.
  int batch = 10;
};

/// Everything is optional; with neither files nor `force_snapshot` no snapshot is made.
struct TableChange {
  std::vector<DataFile> added_data;
  /// Position deletes, deletion vectors, equality deletes. In v3 a new position delete must be a vector. A vector
  /// replaces the one that its data file had: the former is removed without being named here (the caller has merged its
  /// positions in).
  std::vector<DataFile> added_deletes;
  std::vector<FileKey> removed_data;  ///< vectors and single-file position deletes of these go along
  std::vector<FileKey> removed_deletes;
  /// Empty: derived ("append", "delete", "overwrite"). A compaction says "replace".
  std::string operation;
  /// Data sequence number of added_data, when not this commit's (a compaction keeps the number it started from).
  std::optional<int64_t> data_sequence_number;
  /// Added to the snapshot summary: the stamp.
  Properties summary;
  bool force_snapshot = false;
  /// Refuses (kConflict) vectors and single-file position deletes of a data file that is neither in the base nor added
  /// here: somebody else replaced it, and the deletes would be lost.
  bool check_referenced_files = true;
  std::string branch = "main";

  std::vector<MetadataUpdate> metadata_updates;  ///< schema, properties …, applied before the snapshot
  Properties set_properties;                     ///< the stamp again
  std::optional<ExpirePolicy> expire;
  /// Requirements besides those that every commit has (the UUID, the branch's head as of the base).
  std::vector<Requirement> requirements;
};

struct CommitResult {
  Table table;              ///< as of the commit
  int64_t snapshot_id = 0;  ///< 0 when no snapshot was made
  int64_t sequence_number = 0;
  /// first_row_id of each added data file (v3), in the order of TableChange::added_data; empty for v2.
  std::vector<int64_t> first_row_ids;
  /// Locations that nothing reaches any more: expired manifest lists, manifests, data, delete and statistics files.
  std::vector<std::string> garbage;
};

/// A change made ready against one base: its manifests and manifest list are written, nothing is committed.
class PreparedCommit {
 public:
  const TableCommit& request() const { return request_; }
  int64_t snapshot_id() const { return snapshot_id_; }

  /// One attempt. kCommitFailed: the files written for it are deleted; prepare again on a refreshed base (data and
  /// delete files stay, they are the caller's). kCommitStateUnknown: nothing is deleted; look for the stamp. Other
  /// errors: nothing happened, files are deleted. Calls FaultPoint("iceberg.before_commit") and
  /// ("iceberg.after_commit").
  Result<CommitResult> Commit(Catalog& catalog);

 private:
  friend Result<PreparedCommit> PrepareCommit(const Table&, const TableChange&);
  Table base_;
  TableCommit request_;
  int64_t snapshot_id_ = 0;
  int64_t sequence_number_ = 0;
  size_t added_data_count_ = 0;
  std::vector<int64_t> first_row_ids_;
  std::vector<std::string> written_;
  std::vector<Snapshot> expired_;
  std::vector<std::string> expired_files_;
};

/// kConflict: a file to be removed is not in the base (somebody else removed it: the caller must look). kUser: a change
/// the format forbids.
Result<PreparedCommit> PrepareCommit(const Table& base, const TableChange& change);
/// Both, and then the garbage is deleted.
Result<CommitResult> CommitChange(Catalog& catalog, const Table& base, const TableChange& change);

/// What only `expired` reach, of all that `remaining` (all snapshots of the table afterwards) reach. Reads manifests
/// through the cache.
Result<std::vector<std::string>> FindGarbage(FileAccess& files, const TableMetadata& remaining,
                                             const std::vector<Snapshot>& expired);

}  // namespace tidewater::iceberg
