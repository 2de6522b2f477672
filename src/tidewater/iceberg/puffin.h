// Puffin files and deletion vectors (Puffin spec, blob type deletion-vector-v1).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::iceberg {

/// A set of row positions in one data file (0-based, below 2^63): a 64-bit roaring bitmap.
class PositionSet {
 public:
  PositionSet();
  PositionSet(const PositionSet&);
  PositionSet(PositionSet&&) noexcept;
  PositionSet& operator=(PositionSet) noexcept;
  ~PositionSet();

  void Add(uint64_t position);
  /// The fast way: any order, repetitions allowed.
  void AddMany(const uint64_t* positions, size_t count);
  void Union(const PositionSet& other);
  bool Contains(uint64_t position) const;
  uint64_t Cardinality() const;
  bool Empty() const;
  /// How many members are below `position`.
  uint64_t Rank(uint64_t position) const;
  std::vector<uint64_t> ToVector() const;  ///< ascending
  bool operator==(const PositionSet&) const;

  /// The blob deletion-vector-v1: length, magic, bitmap, CRC-32.
  std::string ToBlob() const;
  /// kCorrupt for anything that breaks the format. Memory stays within a small factor of the blob's size.
  static Result<PositionSet> FromBlob(std::string_view blob);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct PuffinBlob {
  std::string type;
  std::vector<int32_t> fields;
  int64_t snapshot_id = -1;
  int64_t sequence_number = -1;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string compression;  ///< empty: none
  std::map<std::string, std::string> properties;
};

inline constexpr char kDeletionVectorBlob[] = "deletion-vector-v1";
inline constexpr char kPuffinReferencedDataFile[] = "referenced-data-file";

/// Builds a file in memory: blobs in the order added.
class PuffinWriter {
 public:
  PuffinWriter();
  /// offset and length of `blob` are filled in and returned with the rest.
  PuffinBlob Add(PuffinBlob blob, std::string_view bytes);
  /// Returns the blob with the offset and length that the manifest entry needs.
  PuffinBlob AddDeletionVector(const PositionSet& positions, const std::string& data_file);
  /// The whole file. Once.
  std::string Finish(const std::map<std::string, std::string>& properties = {});
  const std::vector<PuffinBlob>& blobs() const { return blobs_; }

 private:
  std::string bytes_;
  std::vector<PuffinBlob> blobs_;
};

/// The blobs of a whole file's footer. Bounded; kCorrupt when a blob lies outside the file.
Result<std::vector<PuffinBlob>> ReadPuffinFooter(std::string_view file);

}  // namespace tidewater::iceberg
