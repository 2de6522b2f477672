// The resume position of a source, as the engine's checkpoints hold it (opaque there).
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/sources/postgres/wire.h"

namespace tidewater::postgres {

/// What is known of one table at an offset.
struct TableOffset {
  enum Phase { kLoading, kRepairing, kLoaded };
  uint32_t relid = 0;
  /// The columns' attnums in the order of the table's columns, so that a rename stays a rename.
  std::vector<int> attnums;
  Phase phase = kLoading;
  /// The load starts over: the table is emptied first.
  bool truncate = false;
  /// The last key, as text per column, up to which the load is done; empty = nothing yet.
  std::vector<std::string> bound;
  uint64_t rows = 0;
  /// Keys to be read again at the end of the load: they came by a change of key without their unchanged columns.
  std::set<std::vector<std::string>> repair;
  /// Keys, as text, whose rows are in the error table.
  std::set<std::string> rejected;
  /// Nothing of the table was taken yet.
  bool fresh() const { return phase == kLoading && bound.empty(); }
};

struct Offset {
  std::string system;  ///< the server's system identifier
  Lsn lsn = 0;         ///< behind the last commit record taken; 0 = the slot's position
  std::string slot, publication;
  bool slot_ours = false, publication_ours = false;
  std::map<ObjectId, TableOffset> tables;

  std::string Encode() const;
  /// All but the position, so that a batch costs one small concatenation: Encode() == EncodeLsn(lsn) + EncodeRest().
  std::string EncodeRest() const;
  static std::string EncodeLsn(Lsn lsn);
  /// kCorrupt when it is not one of ours.
  static Result<Offset> Decode(const std::string& text);
  /// Only the position.
  static std::optional<Lsn> DecodeLsn(const std::string& text);
};

}  // namespace tidewater::postgres
