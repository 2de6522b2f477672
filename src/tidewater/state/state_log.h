// The state log: checkpoints as segments of records, made durable one after the other.
//
// Knows bytes and stream names; no rows, no SQL. A segment is one object "log/<number>.seg" in the ObjectStore,
// checksummed, whole or not there (docs/formats/state-log.md). Each stream (one arrangement part, the catalog, the
// offsets, a sink's log) writes kBase records, which replace everything of the stream before them, and kDelta records,
// which follow it.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/io/object_store.h"

namespace tidewater::state {

enum class RecordKind : uint8_t { kBase = 0, kDelta = 1, kDrop = 2 };

struct Record {
  CheckpointId checkpoint = 0;
  std::string stream;
  RecordKind kind = RecordKind::kBase;
  std::string payload;
};

/// Collects the records of one checkpoint, whose id is above all before. Stream names are not empty. Filled by the
/// engine's thread; compressed and written by the log's thread.
class SegmentBuilder {
 public:
  explicit SegmentBuilder(CheckpointId id) : id_(id) {}
  CheckpointId id() const { return id_; }
  void Add(std::string stream, RecordKind kind, std::string payload);
  /// The stream ends here (its object was dropped); its records before are garbage.
  void Drop(std::string stream) { Add(std::move(stream), RecordKind::kDrop, {}); }
  uint64_t bytes() const { return bytes_; }
  std::vector<Record> Take() && { return std::move(records_); }

 private:
  CheckpointId id_;
  uint64_t bytes_ = 0;
  std::vector<Record> records_;
};

class StateLog {
 public:
  virtual ~StateLog() = default;
  /// Opens or creates the log at `store`, and takes the next fencing generation: from then on a process that holds an
  /// older one gets kConflict at its next commit. Damaged bytes: kCorrupt naming the object. A half-written last
  /// segment is ignored.
  static Result<std::unique_ptr<StateLog>> Open(std::shared_ptr<io::ObjectStore> store);

  virtual uint64_t generation() const = 0;
  /// Newest durable checkpoint, 0 when there is none.
  virtual CheckpointId last() const = 0;
  /// Visits the live records of the streams whose name starts with `prefix`, oldest first: for each stream its newest
  /// base and the deltas behind it (deltas alone where it never had a base). Any number of times before the first
  /// Commit; holds at most 64 MB or one record in memory beside what `visit` keeps.
  virtual Status Replay(const std::string& prefix, const std::function<Status(Record&&)>& visit) = 0;
  /// Queues the segment. Segments become durable in order; `done` is called on the log's thread with the outcome. After
  /// an error every later segment fails too (the engine stops). Blocks while more than `max_queued_bytes` wait.
  virtual void Commit(std::unique_ptr<SegmentBuilder> segment, std::function<void(Status)> done) = 0;
  /// Waits until everything queued is durable.
  virtual Status Flush() = 0;
  /// Bytes of durable segments that recovery would read, and of those the bytes of live records: the engine lets
  /// streams write a new base when the ratio grows. Segments without any live record are deleted in the background.
  virtual uint64_t log_bytes() const = 0;
  virtual uint64_t live_bytes() const = 0;
};

/// The write-ahead log of rows that no upstream can send again (INSERT). Group commit: Append returns a ticket at once,
/// the log's thread writes and syncs what has gathered, then `done` of each entry is called.
class WriteAheadLog {
 public:
  virtual ~WriteAheadLog() = default;
  static Result<std::unique_ptr<WriteAheadLog>> Open(std::shared_ptr<io::ObjectStore> store, uint64_t generation);
  /// Sequence numbers count from 1 without holes. `done` is called on the log's thread when the entry is durable.
  virtual uint64_t Append(std::string payload, std::function<void(Status)> done) = 0;
  /// Entries with a sequence number above `after`, in order (the checkpoint records the last one it contains). A torn
  /// tail ends the log.
  virtual Status Replay(uint64_t after, const std::function<Status(uint64_t, std::string&&)>& visit) = 0;
  /// Entries up to `sequence` are in a durable checkpoint.
  virtual void Truncate(uint64_t sequence) = 0;
  /// The next number that Append gives; set after Replay.
  virtual uint64_t next_sequence() const = 0;
};

}  // namespace tidewater::state
