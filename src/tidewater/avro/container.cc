#include "tidewater/avro/container.h"
#include <zlib.h>
#include <zstd.h>
#include <random>
#include "tidewater/base/check.h"

namespace tidewater::avro {
namespace {

constexpr std::string_view kMagic("Obj\x01", 4);
constexpr size_t kSyncSize = 16;
constexpr size_t kBlockTarget = 64 << 10;
constexpr size_t kBlockMax = 256 << 20;
constexpr size_t kMetadataEntriesMax = 10000;

Error Bad(const char* why) { return EnvError(ErrorKind::kCorrupt, "invalid Avro file: {}", why); }

std::string Deflate(std::string_view in) {
  z_stream z{};
  TW_CHECK_EQ(deflateInit2(&z, 3, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, in.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = uInt(in.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = uInt(out.size());
  int rc = deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  TW_CHECK_EQ(rc, Z_STREAM_END);
  return out;
}

Status Inflate(std::string_view in, std::string* out) {
  z_stream z{};
  if (inflateInit2(&z, -15) != Z_OK) return std::unexpected(EnvError(ErrorKind::kInternal, "zlib does not start"));
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = uInt(in.size());
  out->resize(std::min(kBlockMax, std::max<size_t>(in.size() * 4, 4096)));
  int rc = Z_OK;
  while (true) {
    z.next_out = reinterpret_cast<Bytef*>(out->data() + z.total_out);
    z.avail_out = uInt(out->size() - z.total_out);
    rc = inflate(&z, Z_NO_FLUSH);
    if (rc != Z_OK || z.avail_out > 0 || out->size() >= kBlockMax) break;
    out->resize(std::min(kBlockMax, out->size() * 2));
  }
  out->resize(z.total_out);
  inflateEnd(&z);
  if (rc != Z_STREAM_END)
    return std::unexpected(
        Bad(rc == Z_OK || rc == Z_BUF_ERROR ? "a block is cut off or too large" : "a block does not inflate"));
  return {};
}

Status Unzstd(std::string_view in, std::string* out) {
  ZSTD_DStream* d = ZSTD_createDStream();
  ZSTD_inBuffer src{in.data(), in.size(), 0};
  out->resize(std::min(kBlockMax, std::max<size_t>(in.size() * 4, 4096)));
  ZSTD_outBuffer dst{out->data(), out->size(), 0};
  size_t rc = 0;
  const char* bad = nullptr;
  while (true) {
    rc = ZSTD_decompressStream(d, &dst, &src);
    if (ZSTD_isError(rc)) {
      bad = "a block does not decompress";
      break;
    }
    if (rc == 0 && src.pos == src.size) break;
    if (dst.pos < dst.size) {
      if (src.pos == src.size) {
        bad = "a block is cut off";
        break;
      }
      continue;
    }
    if (out->size() >= kBlockMax) {
      bad = "a block is too large";
      break;
    }
    out->resize(std::min(kBlockMax, out->size() * 2));
    dst.dst = out->data();
    dst.size = out->size();
  }
  out->resize(dst.pos);
  ZSTD_freeDStream(d);
  if (bad) return std::unexpected(Bad(bad));
  return {};
}

std::string RandomSync() {
  std::random_device device;
  std::string sync(kSyncSize, '\0');
  for (char& c : sync) c = char(device());
  return sync;
}

}  // namespace

Writer::Writer(std::string_view schema_json, const std::map<std::string, std::string>& metadata, Codec codec)
    : codec_(codec), sync_(RandomSync()), encoder_(&block_) {
  out_.append(kMagic);
  Encoder header(&out_);
  header.Items(metadata.size() + 2);
  header.Bytes("avro.schema");
  header.Bytes(schema_json);
  header.Bytes("avro.codec");
  header.Bytes(codec == Codec::kNull ? "null" : codec == Codec::kDeflate ? "deflate" : "zstandard");
  for (const auto& [key, value] : metadata) {
    header.Bytes(key);
    header.Bytes(value);
  }
  header.End();
  out_.append(sync_);
}

void Writer::EndRecord() {
  ++block_records_;
  if (block_.size() >= kBlockTarget) Flush();
}

void Writer::Flush() {
  if (block_records_ == 0) return;
  Encoder e(&out_);
  e.Long(block_records_);
  switch (codec_) {
    case Codec::kNull:
      e.Bytes(block_);
      break;
    case Codec::kDeflate:
      e.Bytes(Deflate(block_));
      break;
    case Codec::kZstd: {
      std::string packed(ZSTD_compressBound(block_.size()), '\0');
      size_t n = ZSTD_compress(packed.data(), packed.size(), block_.data(), block_.size(), 3);
      TW_CHECK(!ZSTD_isError(n), "{}", ZSTD_getErrorName(n));
      e.Bytes(std::string_view(packed.data(), n));
      break;
    }
  }
  out_.append(sync_);
  block_.clear();
  block_records_ = 0;
}

std::string Writer::Finish() {
  Flush();
  return std::move(out_);
}

Result<Reader> Reader::Open(std::string_view file) {
  if (file.substr(0, 4) != kMagic) return std::unexpected(Bad("no Avro container"));
  Reader reader;
  Decoder d(file.substr(4));
  d.Items([&] {
    std::string key(d.Bytes());
    std::string value(d.Bytes());
    if (reader.metadata_.size() >= kMetadataEntriesMax) {
      d.Fail("too many metadata entries");
    } else {
      reader.metadata_[std::move(key)] = std::move(value);
    }
  });
  reader.sync_ = d.Fixed(kSyncSize);
  TW_TRY(d.status());
  reader.rest_ = file.substr(file.size() - d.remaining());
  const std::string& codec = reader.metadata_["avro.codec"];
  if (codec.empty() || codec == "null")
    reader.codec_ = Codec::kNull;
  else if (codec == "deflate")
    reader.codec_ = Codec::kDeflate;
  else if (codec == "zstandard")
    reader.codec_ = Codec::kZstd;
  else
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "Avro codec {} is not supported", codec.substr(0, 40)));
  TW_ASSIGN(reader.schema_, Schema::Parse(reader.metadata_["avro.schema"]));
  return reader;
}

Result<std::optional<Reader::Block>> Reader::Next() {
  if (rest_.empty()) return std::nullopt;
  Decoder d(rest_);
  Block block;
  block.records = d.Long();
  std::string_view data = d.Bytes();
  std::string_view sync = d.Fixed(kSyncSize);
  TW_TRY(d.status());
  if (sync != sync_) return std::unexpected(Bad("a block does not end with the sync marker"));
  rest_ = rest_.substr(rest_.size() - d.remaining());
  if (data.size() > kBlockMax) return std::unexpected(Bad("a block is too large"));
  switch (codec_) {
    case Codec::kNull:
      block.data = data;
      break;
    case Codec::kDeflate:
      TW_TRY(Inflate(data, &buffer_));
      block.data = buffer_;
      break;
    case Codec::kZstd:
      TW_TRY(Unzstd(data, &buffer_));
      block.data = buffer_;
      break;
  }
  if (block.records < 0 || uint64_t(block.records) > block.data.size())
    return std::unexpected(Bad("a record count beyond the data"));
  return block;
}

}  // namespace tidewater::avro
