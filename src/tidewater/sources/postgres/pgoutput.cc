#include "tidewater/sources/postgres/pgoutput.h"

namespace tidewater::postgres {
namespace {

/// Reads forward and remembers whether it ever ran out.
class Reader {
 public:
  explicit Reader(std::span<const char> bytes) : p_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool ok() const { return ok_; }
  bool done() const { return ok_ && p_ == end_; }
  size_t left() const { return size_t(end_ - p_); }
  const char* Take(size_t n) {
    if (n > left()) [[unlikely]] {
      ok_ = false;
      p_ = end_;
      return nullptr;
    }
    auto* at = p_;
    p_ += n;
    return at;
  }
  uint8_t U8() {
    auto* p = Take(1);
    return p ? uint8_t(*p) : 0;
  }
  uint16_t U16() {
    auto* p = Take(2);
    return p ? ReadU16(p) : 0;
  }
  uint32_t U32() {
    auto* p = Take(4);
    return p ? ReadU32(p) : 0;
  }
  uint64_t U64() {
    auto* p = Take(8);
    return p ? ReadU64(p) : 0;
  }
  std::string_view CString() {
    auto* nul = left() ? static_cast<const char*>(memchr(p_, 0, left())) : nullptr;
    if (!nul) {
      ok_ = false;
      p_ = end_;
      return {};
    }
    std::string_view s(p_, size_t(nul - p_));
    p_ = nul + 1;
    return s;
  }
  void Fail() { ok_ = false; }

 private:
  const char* p_;
  const char* end_;
  bool ok_ = true;
};

void ReadTuple(Reader& r, Tuple& row) {
  size_t n = r.U16();
  if (n > kMaxColumns) return r.Fail();
  row.resize(n);
  for (auto& f : row) {
    f.kind = Field::Kind(r.U8());
    f.size = 0;
    f.data = nullptr;
    switch (f.kind) {
      case Field::kNull:
      case Field::kUnchanged:
        break;
      case Field::kText:
      case Field::kBinary:
        f.size = r.U32();
        f.data = r.Take(f.size);
        break;
      default:
        r.Fail();
    }
    if (!r.ok()) return;
  }
}

}  // namespace

Result<const PgoutputMessage*> PgoutputDecoder::Decode(std::span<const char> bytes) {
  Reader r(bytes);
  auto& m = message_;
  m.type = PgoutputMessage::Type(r.U8());
  switch (m.type) {
    case PgoutputMessage::kBegin:
      m.commit_lsn = r.U64();
      m.commit_time = int64_t(r.U64());
      m.xid = r.U32();
      break;
    case PgoutputMessage::kCommit:
      r.U8();
      m.commit_lsn = r.U64();
      m.end_lsn = r.U64();
      m.commit_time = int64_t(r.U64());
      break;
    case PgoutputMessage::kOrigin:
      r.U64();
      r.CString();
      break;
    case PgoutputMessage::kRelation: {
      m.relation = r.U32();
      m.schema = r.CString();
      m.name = r.CString();
      m.replica_identity = char(r.U8());
      size_t n = r.U16();
      if (n > kMaxColumns) r.Fail();
      m.columns.clear();
      for (size_t i = 0; i < n && r.ok(); i++) {
        PgoutputMessage::Column c;
        c.key = r.U8() & 1;
        c.name = r.CString();
        c.type = r.U32();
        c.typmod = int32_t(r.U32());
        m.columns.push_back(c);
      }
      break;
    }
    case PgoutputMessage::kType:
      r.U32();
      r.CString();
      r.CString();
      break;
    case PgoutputMessage::kInsert:
      m.relation = r.U32();
      if (r.U8() != 'N') r.Fail();
      if (r.ok()) ReadTuple(r, m.new_row);
      break;
    case PgoutputMessage::kUpdate: {
      m.relation = r.U32();
      char kind = char(r.U8());
      m.old_kind = 0;
      if (kind == 'K' || kind == 'O') {
        m.old_kind = kind;
        ReadTuple(r, m.old_row);
        kind = char(r.U8());
      }
      if (kind != 'N') r.Fail();
      if (r.ok()) ReadTuple(r, m.new_row);
      break;
    }
    case PgoutputMessage::kDelete:
      m.relation = r.U32();
      m.old_kind = char(r.U8());
      if (m.old_kind != 'K' && m.old_kind != 'O') r.Fail();
      if (r.ok()) ReadTuple(r, m.old_row);
      break;
    case PgoutputMessage::kTruncate: {
      size_t n = r.U32();
      r.U8();
      if (n > r.left() / 4) {
        r.Fail();
        break;
      }
      m.truncated.resize(n);
      for (auto& id : m.truncated) id = r.U32();
      break;
    }
    case PgoutputMessage::kMessage: {
      r.U8();
      r.U64();
      r.CString();
      size_t n = r.U32();
      r.Take(n);
      break;
    }
    default:
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "pgoutput: unknown message type {}", int(uint8_t(m.type))));
  }
  if (!r.done())
    return std::unexpected(EnvError(ErrorKind::kCorrupt,
                                    "pgoutput: message of type '{}' and {} bytes breaks its format", char(m.type),
                                    bytes.size()));
  return &m;
}

Result<ReplicationMessage> DecodeReplication(std::span<const char> bytes) {
  Reader r(bytes);
  ReplicationMessage m;
  m.type = ReplicationMessage::Type(r.U8());
  switch (m.type) {
    case ReplicationMessage::kData:
      m.start = r.U64();
      m.end = r.U64();
      m.server_time = int64_t(r.U64());
      m.data = {bytes.data() + (bytes.size() - r.left()), r.left()};
      r.Take(r.left());
      break;
    case ReplicationMessage::kKeepalive:
      m.end = r.U64();
      m.server_time = int64_t(r.U64());
      m.reply_now = r.U8() != 0;
      break;
    default:
      r.Fail();
  }
  if (!r.done())
    return std::unexpected(
        EnvError(ErrorKind::kCorrupt, "replication stream: a message of {} bytes breaks its format", bytes.size()));
  return m;
}

}  // namespace tidewater::postgres
