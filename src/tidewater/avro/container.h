// Avro object container files (Avro 1.11 specification, "Object Container Files").
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include "tidewater/avro/binary.h"
#include "tidewater/avro/schema.h"
#include "tidewater/base/result.h"

namespace tidewater::avro {

enum class Codec { kNull, kDeflate, kZstd };

/// Builds a file in memory. The schema goes into the header as it is given, custom attributes and all.
class Writer {
 public:
  Writer(std::string_view schema_json, const std::map<std::string, std::string>& metadata, Codec codec);
  /// Appends to the record under way; then EndRecord().
  Encoder& record() { return encoder_; }
  void EndRecord();
  /// Bytes so far, the open block uncompressed: an upper bound for deciding when a file is full.
  size_t size() const { return out_.size() + block_.size(); }
  /// The whole file. Once.
  std::string Finish();

 private:
  void Flush();
  Codec codec_;
  std::string out_;
  std::string block_;
  int64_t block_records_ = 0;
  std::string sync_;
  Encoder encoder_;
};

/// Reads a file that the caller keeps alive.
class Reader {
 public:
  /// kCorrupt for what breaks the format; kUnsupported for another codec.
  static Result<Reader> Open(std::string_view file);
  const Schema& schema() const { return schema_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  struct Block {
    int64_t records = 0;    ///< at most one per byte
    std::string_view data;  ///< valid until the next call
  };
  /// nullopt at the end. A block takes at most 256 MB uncompressed.
  Result<std::optional<Block>> Next();

 private:
  Reader() = default;
  Schema schema_;
  std::map<std::string, std::string> metadata_;
  Codec codec_ = Codec::kNull;
  std::string_view rest_;
  std::string_view sync_;
  std::string buffer_;
};

}  // namespace tidewater::avro
