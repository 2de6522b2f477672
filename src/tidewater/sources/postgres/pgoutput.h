// The logical replication messages of pgoutput, protocol version 1 (PostgreSQL manual, "Logical Replication Message
// Formats"): bytes in, one message out. Knows nothing of connections or rows.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/sources/postgres/wire.h"

namespace tidewater::postgres {

/// PostgreSQL's own limit on the attributes of a tuple (MaxTupleAttributeNumber).
constexpr size_t kMaxColumns = 1664;

/// One value of a row as it came over the wire, pointing into the message.
struct Field {
  enum Kind : char { kNull = 'n', kUnchanged = 'u', kText = 't', kBinary = 'b' };
  Kind kind = kNull;
  uint32_t size = 0;
  const char* data = nullptr;
  std::string_view view() const { return {data, size}; }
};

using Tuple = std::vector<Field>;

/// What a message says. Views and fields are valid until the next Decode and as long as its bytes.
struct PgoutputMessage {
  enum Type : char {
    kBegin = 'B',
    kCommit = 'C',
    kOrigin = 'O',
    kRelation = 'R',
    kType = 'Y',
    kInsert = 'I',
    kUpdate = 'U',
    kDelete = 'D',
    kTruncate = 'T',
    kMessage = 'M',
  };
  struct Column {
    bool key = false;  ///< part of the replica identity
    std::string_view name;
    uint32_t type = 0;
    int32_t typmod = -1;
  };
  Type type = kBegin;
  // kBegin, kCommit
  uint32_t xid = 0;         ///< kBegin
  Lsn commit_lsn = 0;       ///< where the commit record starts
  Lsn end_lsn = 0;          ///< kCommit: behind the commit record
  int64_t commit_time = 0;  ///< µs since 2000-01-01
  // kRelation, kInsert, kUpdate, kDelete
  uint32_t relation = 0;
  std::string_view schema, name;  ///< kRelation, of the table; an empty schema stands for pg_catalog
  char replica_identity = 'd';    ///< kRelation: 'd', 'n', 'f' or 'i'
  std::vector<Column> columns;    ///< kRelation
  char old_kind = 0;              ///< kUpdate, kDelete: 'K' key columns, 'O' whole old row, 0 none sent
  Tuple old_row, new_row;
  // kTruncate
  std::vector<uint32_t> truncated;
};

class PgoutputDecoder {
 public:
  /// kCorrupt when the bytes are not exactly one message. The message belongs to the decoder.
  Result<const PgoutputMessage*> Decode(std::span<const char> bytes);

 private:
  PgoutputMessage message_;
};

/// The outer messages of streaming replication that carry pgoutput ("Streaming Replication Protocol").
struct ReplicationMessage {
  enum Type : char { kData = 'w', kKeepalive = 'k' };
  Type type = kData;
  Lsn start = 0;               ///< kData
  Lsn end = 0;                 ///< how far the server has sent
  int64_t server_time = 0;     ///< µs since 2000-01-01
  bool reply_now = false;      ///< kKeepalive
  std::span<const char> data;  ///< kData
};
Result<ReplicationMessage> DecodeReplication(std::span<const char> bytes);

}  // namespace tidewater::postgres
