// Avro's binary encoding (Avro 1.11 specification, "Binary encoding").
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include "tidewater/avro/schema.h"
#include "tidewater/base/result.h"

namespace tidewater::avro {

/// Appends values to a string.
class Encoder {
 public:
  explicit Encoder(std::string* out) : out_(*out) {}
  void Long(int64_t v) {
    uint64_t z = (uint64_t(v) << 1) ^ uint64_t(v >> 63);
    while (z >= 0x80) {
      out_.push_back(char(z | 0x80));
      z >>= 7;
    }
    out_.push_back(char(z));
  }
  void Int(int32_t v) { Long(v); }
  void Boolean(bool v) { out_.push_back(v ? 1 : 0); }
  void Bytes(std::string_view v) {
    Long(int64_t(v.size()));
    out_.append(v);
  }
  void Fixed(std::string_view v) { out_.append(v); }
  /// The index of a union's branch.
  void Branch(int index) { Long(index); }
  /// Opens an array or map of `count` items, which follow; then End(). Nothing for an empty one.
  void Items(size_t count) {
    if (count > 0) Long(int64_t(count));
  }
  void End() { out_.push_back(0); }

 private:
  std::string& out_;
};

/// Reads values from a block that the caller keeps alive. After the first error every read gives a zero or empty value
/// and ok() is false: check it once per record, and in loops.
class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : p_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool ok() const { return error_ == nullptr; }
  Status status() const;
  void Fail(const char* why) {
    if (!error_) error_ = why;
    p_ = end_;
  }
  size_t remaining() const { return size_t(end_ - p_); }

  int64_t Long();
  int32_t Int();
  bool Boolean();
  float Float();
  double Double();
  std::string_view Bytes();
  std::string_view Fixed(size_t size);

  /// Reads the branch index of a union (of several levels, none) and returns the type that follows; null type when it
  /// failed.
  const Node& Branch(const Node& node);
  void Skip(const Node& node) { Skip(node, 0); }

  /// Calls `item()` for every item of an array or map. An item takes at least one byte.
  template <class F>
  void Items(F item) {
    while (ok()) {
      int64_t count = Long();
      if (count == 0 || !ok()) return;
      if (count < 0) {
        if (count == INT64_MIN) return Fail("item count");
        count = -count;
        Long();  // the block's size in bytes
      }
      if (uint64_t(count) > remaining()) return Fail("item count beyond the data");
      for (int64_t i = 0; i < count && ok(); ++i) item();
    }
  }

 private:
  void Skip(const Node& node, int depth);
  const char* p_;
  const char* end_;
  const char* error_ = nullptr;
};

}  // namespace tidewater::avro
