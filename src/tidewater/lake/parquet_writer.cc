#include "tidewater/lake/parquet_writer.h"
#include "tidewater/base/check.h"
#include "tidewater/iceberg/values.h"
#include "tidewater/lake/duck.h"
#include "parquet_writer.hpp"
#include "thrift/protocol/TCompactProtocol.h"
#include "thrift/transport/TTransport.h"

// DuckDB's Parquet classes name their own types through `duckdb`; this code lives there so that lookups agree.
namespace duckdb {
namespace {

struct SinkHandle : FileHandle {
  SinkHandle(FileSystem& fs, const string& path, FileOpenFlags flags) : FileHandle(fs, path, flags) {}
  void Close() override {}
};

/// The one file that a ParquetWriter writes, as a growing string.
class SinkFs : public FileSystem {
 public:
  unique_ptr<FileHandle> OpenFile(const string& path, FileOpenFlags flags, optional_ptr<FileOpener>) override {
    return make_uniq<SinkHandle>(*this, path, flags);
  }
  int64_t Write(FileHandle&, void* buffer, int64_t n) override {
    bytes.append(static_cast<const char*>(buffer), n);
    return n;
  }
  void Write(FileHandle&, void* buffer, int64_t n, idx_t location) override {
    TW_CHECK_EQ(location, bytes.size());
    bytes.append(static_cast<const char*>(buffer), n);
  }
  int64_t GetFileSize(FileHandle&) override { return bytes.size(); }
  void FileSync(FileHandle&) override {}
  string GetName() const override { return "TidewaterSink"; }
  std::string bytes;
};

/// Reads a Thrift struct from bytes in memory.
class BytesTransport : public duckdb_apache::thrift::transport::TTransport {
 public:
  explicit BytesTransport(std::string_view bytes) : bytes_(bytes) {}
  bool isOpen() const override { return true; }
  void open() override {}
  void close() override {}
  uint32_t read_virt(uint8_t* out, uint32_t n) override {
    n = std::min<uint32_t>(n, bytes_.size());
    std::memcpy(out, bytes_.data(), n);
    bytes_.remove_prefix(n);
    return n;
  }
  uint32_t readAll_virt(uint8_t* out, uint32_t n) override {
    if (n > bytes_.size()) throw IOException("Parquet footer ends early");
    return read_virt(out, n);
  }

 private:
  std::string_view bytes_;
};

ChildFieldIDs FieldIds(const std::vector<tidewater::lake::FileColumn>& columns) {
  ChildFieldIDs ids;
  for (auto& c : columns) {
    FieldID id(c.field_id);
    id.child_field_ids = FieldIds(c.children);
    ids.ids->insert({c.name, std::move(id)});
  }
  return ids;
}

duckdb_parquet::FileMetaData ReadFooter(const std::string& file) {
  if (file.size() < 12) throw IOException("Parquet file of %llu bytes", (unsigned long long)file.size());
  uint32_t length = Load<uint32_t>(const_data_ptr_cast(file.data() + file.size() - 8));
  if (length > file.size() - 12) throw IOException("Parquet footer is longer than its file");
  std::string_view footer(file.data() + file.size() - 8 - length, length);
  duckdb_apache::thrift::protocol::TCompactProtocolFactoryT<BytesTransport> factory;
  auto protocol = factory.getProtocol(std::make_shared<BytesTransport>(footer));
  duckdb_parquet::FileMetaData meta;
  meta.read(protocol.get());
  return meta;
}

/// Big-endian two's complement in the fewest bytes.
std::string MinimalBigEndian(std::string big_endian) {
  size_t i = 0;
  while (i + 1 < big_endian.size()) {
    auto b = uint8_t(big_endian[i]);
    bool next_negative = uint8_t(big_endian[i + 1]) & 0x80;
    if ((b == 0 && !next_negative) || (b == 0xff && next_negative))
      i++;
    else
      break;
  }
  return big_endian.substr(i);
}

/// A Parquet statistic as Iceberg's single value.
std::optional<std::string> ToBound(const std::string& stat, const LogicalType& type, bool upper, bool truncate) {
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      return stat.size() >= 1 ? std::optional(stat.substr(0, 1)) : std::nullopt;
    case LogicalTypeId::DECIMAL:
      if (type.InternalType() == PhysicalType::INT128) return MinimalBigEndian(stat);
      return MinimalBigEndian(std::string(stat.rbegin(), stat.rend()));
    case LogicalTypeId::VARCHAR:
    case LogicalTypeId::BLOB: {
      if (!truncate) return stat;
      bool is_string = type.id() == LogicalTypeId::VARCHAR;
      if (upper) return tidewater::iceberg::TruncateUpper(stat, 16, is_string);
      return tidewater::iceberg::TruncateLower(stat, 16, is_string);
    }
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::FLOAT:
    case LogicalTypeId::DOUBLE:
    case LogicalTypeId::DATE:
    case LogicalTypeId::TIME:
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_TZ:
    case LogicalTypeId::TIMESTAMP_NS:
    case LogicalTypeId::UUID:
      return stat;
    default:
      return std::nullopt;
  }
}

class DuckParquetFile : public tidewater::lake::ParquetFile {
 public:
  DuckParquetFile(std::vector<tidewater::lake::FileColumn> columns, tidewater::lake::ParquetOptions options)
      : columns_(std::move(columns)), options_(options), con_(tidewater::lake::Connect()) {
    vector<string> names;
    for (auto& c : columns_) {
      types_.push_back(c.type);
      names.push_back(c.name);
    }
    con_->BeginTransaction();
    // A short dictionary: columns of few values gain from it, and all others stop paying for it early. Left open,
    // DuckDB takes a fifth of the rows.
    optional_idx dictionary = options_.expected_rows && options_.expected_rows < 5 * kDictionaryValues
                                  ? optional_idx()
                                  : optional_idx(kDictionaryValues);
    writer_ = make_uniq<ParquetWriter>(*con_->context, fs_, "data.parquet", types_, names,
                                       duckdb_parquet::CompressionCodec::ZSTD, FieldIds(columns_), ShreddingType(),
                                       vector<pair<string, string>>{}, nullptr, dictionary, kDictionaryBytes, false,
                                       0.01, options_.zstd_level, ParquetVersion::V1, GeoParquetVersion::NONE);
    NewBuffer();
  }
  ~DuckParquetFile() override {
    writer_.reset();
    buffer_.reset();
    transform_.reset();
    try {
      con_->Rollback();
    } catch (const std::exception&) {
      // Nothing was changed; a broken transaction has nothing to undo.
    }
  }

  tidewater::Status Append(DataChunk& rows) override {
    try {
      buffer_->Append(append_, rows);
      rows_ += rows.size();
      if (buffer_->Count() >= options_.row_group_rows || buffer_->AllocationSize() >= options_.row_group_bytes) Flush();
    } catch (const std::exception& e) {
      return std::unexpected(Failed(e));
    }
    return {};
  }
  uint64_t rows() const override { return rows_; }
  uint64_t encoded_bytes() const override { return fs_.bytes.size(); }

  tidewater::Result<tidewater::lake::FinishedFile> Finish() override {
    try {
      if (buffer_->Count() > 0) Flush();
      writer_->Finalize();
      tidewater::lake::FinishedFile file;
      file.bytes = std::move(fs_.bytes);
      file.file.record_count = rows_;
      file.file.file_size_bytes = file.bytes.size();
      ReadMetrics(file);
      return file;
    } catch (const std::exception& e) {
      return std::unexpected(Failed(e));
    }
  }

 private:
  static constexpr idx_t kDictionaryValues = 8192;
  static constexpr idx_t kDictionaryBytes = 512 << 10;

  static tidewater::Error Failed(const std::exception& e) {
    return tidewater::EnvError(tidewater::ErrorKind::kInternal, "writing Parquet failed: {}",
                               tidewater::lake::DuckMessage(e));
  }
  void NewBuffer() {
    append_ = ColumnDataAppendState();
    buffer_ = make_uniq<ColumnDataCollection>(*con_->context, types_);
    buffer_->InitializeAppend(append_);
  }
  void Flush() {
    writer_->Flush(*buffer_, transform_);
    NewBuffer();
  }

  void ReadMetrics(tidewater::lake::FinishedFile& file) {
    auto meta = ReadFooter(file.bytes);
    TW_CHECK_EQ(uint64_t(meta.num_rows), rows_);
    // Leaves of the schema in file order; only those that are columns themselves have a type here.
    struct Leaf {
      int32_t id;
      const LogicalType* type;
    };
    std::vector<Leaf> leaves;
    idx_t next_column = 0;
    std::vector<int> open;  // children still to come of each open group below the root
    for (idx_t i = 1; i < meta.schema.size(); i++) {
      auto& s = meta.schema[i];
      bool top = open.empty();
      const LogicalType* type = top ? &columns_[next_column++].type : nullptr;
      bool group = s.__isset.num_children && s.num_children > 0;
      if (!group) leaves.push_back({s.__isset.field_id ? s.field_id : 0, type});
      if (!top) open.back()--;
      if (group) open.push_back(s.num_children);
      while (!open.empty() && open.back() == 0) open.pop_back();
    }
    struct Bounds {
      std::string min, max;
      bool complete = true, any = false;
    };
    std::vector<Bounds> bounds(leaves.size());
    std::map<int32_t, int64_t> sizes, values, nulls;
    for (auto& group : meta.row_groups) {
      TW_CHECK_EQ(group.columns.size(), leaves.size());
      file.file.split_offsets.push_back(group.file_offset);
      for (idx_t c = 0; c < leaves.size(); c++) {
        auto& leaf = leaves[c];
        if (leaf.id == 0) continue;
        auto& column = group.columns[c].meta_data;
        sizes[leaf.id] += column.total_compressed_size;
        if (!leaf.type) continue;
        values[leaf.id] += column.num_values;
        auto& stats = column.statistics;
        int64_t null_count = column.__isset.statistics && stats.__isset.null_count ? stats.null_count : 0;
        nulls[leaf.id] += null_count;
        if (null_count == column.num_values) continue;
        auto& b = bounds[c];
        if (!column.__isset.statistics || !stats.__isset.min_value || !stats.__isset.max_value) {
          b.complete = false;
          continue;
        }
        if (!b.any || Less(*leaf.type, stats.min_value, b.min)) b.min = stats.min_value;
        if (!b.any || Less(*leaf.type, b.max, stats.max_value)) b.max = stats.max_value;
        b.any = true;
      }
    }
    std::map<int32_t, std::string> lower, upper;
    for (idx_t c = 0; c < leaves.size(); c++) {
      if (!bounds[c].any || !bounds[c].complete) continue;
      if (auto v = ToBound(bounds[c].min, *leaves[c].type, false, options_.truncate_bounds)) lower[leaves[c].id] = *v;
      if (auto v = ToBound(bounds[c].max, *leaves[c].type, true, options_.truncate_bounds)) upper[leaves[c].id] = *v;
    }
    auto& out = file.file;
    out.column_sizes.assign(sizes.begin(), sizes.end());
    out.value_counts.assign(values.begin(), values.end());
    out.null_value_counts.assign(nulls.begin(), nulls.end());
    out.lower_bounds.assign(lower.begin(), lower.end());
    out.upper_bounds.assign(upper.begin(), upper.end());
  }

  template <class T>
  static bool LessAs(const std::string& a, const std::string& b) {
    return Load<T>(const_data_ptr_cast(a.data())) < Load<T>(const_data_ptr_cast(b.data()));
  }
  /// Order of two statistics of a column.
  static bool Less(const LogicalType& type, const std::string& a, const std::string& b) {
    switch (type.id()) {
      case LogicalTypeId::FLOAT:
        return LessAs<float>(a, b);
      case LogicalTypeId::DOUBLE:
        return LessAs<double>(a, b);
      case LogicalTypeId::VARCHAR:
      case LogicalTypeId::BLOB:
      case LogicalTypeId::UUID:
        return a < b;  // char_traits<char> compares unsigned bytes
      case LogicalTypeId::DECIMAL:
        if (type.InternalType() == PhysicalType::INT128) {
          // Big-endian two's complement of one width: the sign bit first, then unsigned bytes.
          bool na = uint8_t(a[0]) & 0x80, nb = uint8_t(b[0]) & 0x80;
          return na != nb ? na : a < b;
        }
        break;
      default:
        break;
    }
    switch (a.size()) {
      case 1:
        return LessAs<uint8_t>(a, b);
      case 4:
        return LessAs<int32_t>(a, b);
      default:
        return LessAs<int64_t>(a, b);
    }
  }

  std::vector<tidewater::lake::FileColumn> columns_;
  tidewater::lake::ParquetOptions options_;
  std::unique_ptr<Connection> con_;
  SinkFs fs_;
  vector<LogicalType> types_;
  unique_ptr<ParquetWriter> writer_;
  unique_ptr<ColumnDataCollection> buffer_;
  ColumnDataAppendState append_;
  unique_ptr<ParquetWriteTransformData> transform_;
  uint64_t rows_ = 0;
};

}  // namespace
}  // namespace duckdb

namespace tidewater::lake {

Result<std::unique_ptr<ParquetFile>> ParquetFile::Create(std::vector<FileColumn> columns, ParquetOptions options) {
  try {
    return std::make_unique<duckdb::DuckParquetFile>(std::move(columns), options);
  } catch (const std::exception& e) {
    return std::unexpected(EnvError(ErrorKind::kInternal, "opening a Parquet writer failed: {}", DuckMessage(e)));
  }
}

}  // namespace tidewater::lake
