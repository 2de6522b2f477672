#include "tidewater/avro/binary.h"
#include <cstring>
#include <limits>

namespace tidewater::avro {
namespace {
constexpr int kSkipDepthMax = 64;
const Node kNullNode;
}  // namespace

Status Decoder::status() const {
  if (error_) return std::unexpected(EnvError(ErrorKind::kCorrupt, "invalid Avro data: {}", error_));
  return {};
}

int64_t Decoder::Long() {
  uint64_t z = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (p_ == end_) {
      Fail("end of data in a number");
      return 0;
    }
    uint8_t b = uint8_t(*p_++);
    if (shift == 63 && b > 1) break;
    z |= uint64_t(b & 0x7f) << shift;
    if (b < 0x80) return int64_t(z >> 1) ^ -int64_t(z & 1);
  }
  Fail("a number of more than 64 bits");
  return 0;
}

int32_t Decoder::Int() {
  int64_t v = Long();
  if (v < std::numeric_limits<int32_t>::min() || v > std::numeric_limits<int32_t>::max()) {
    Fail("an int out of range");
    return 0;
  }
  return int32_t(v);
}

bool Decoder::Boolean() {
  std::string_view b = Fixed(1);
  return !b.empty() && b[0] != 0;
}

float Decoder::Float() {
  float v = 0;
  std::string_view b = Fixed(4);
  if (b.size() == 4) std::memcpy(&v, b.data(), 4);
  return v;
}

double Decoder::Double() {
  double v = 0;
  std::string_view b = Fixed(8);
  if (b.size() == 8) std::memcpy(&v, b.data(), 8);
  return v;
}

std::string_view Decoder::Bytes() {
  int64_t size = Long();
  if (size < 0) {
    Fail("a negative length");
    return {};
  }
  return Fixed(size_t(size));
}

std::string_view Decoder::Fixed(size_t size) {
  if (size > remaining()) {
    Fail("a length beyond the data");
    return {};
  }
  std::string_view v(p_, size);
  p_ += size;
  return v;
}

const Node& Decoder::Branch(const Node& node) {
  if (node.kind != Kind::kUnion) return node;
  int64_t index = Long();
  if (!ok() || index < 0 || size_t(index) >= node.branches.size()) {
    Fail("a union branch that does not exist");
    return kNullNode;
  }
  return *node.branches[size_t(index)];
}

void Decoder::Skip(const Node& declared, int depth) {
  if (depth > kSkipDepthMax) return Fail("nested too deeply");
  const Node& node = Branch(declared);
  switch (node.kind) {
    case Kind::kNull:
      return;
    case Kind::kBoolean:
      Fixed(1);
      return;
    case Kind::kInt:
    case Kind::kLong:
    case Kind::kEnum:
      Long();
      return;
    case Kind::kFloat:
      Fixed(4);
      return;
    case Kind::kDouble:
      Fixed(8);
      return;
    case Kind::kBytes:
    case Kind::kString:
      Bytes();
      return;
    case Kind::kFixed:
      Fixed(node.fixed_size);
      return;
    case Kind::kArray:
      Items([&] { Skip(*node.items, depth + 1); });
      return;
    case Kind::kMap:
      Items([&] {
        Bytes();
        Skip(*node.items, depth + 1);
      });
      return;
    case Kind::kRecord:
      for (const RecordField& f : node.fields) {
        if (!ok()) return;
        Skip(*f.type, depth + 1);
      }
      return;
    case Kind::kUnion:
      return Fail("union within a union");
  }
}

}  // namespace tidewater::avro
