#include "tidewater/base/mutex.h"
#include "tidewater/lake/duck.h"
#include "duckdb/common/file_system.hpp"
#include "duckdb/common/virtual_file_system.hpp"

namespace tidewater::lake {
namespace {

constexpr const char* kPrefix = "twmem://";

struct Registry {
  Mutex mutex;
  uint64_t next GUARDED_BY(mutex) = 1;
  std::unordered_map<std::string, std::shared_ptr<const std::string>> files GUARDED_BY(mutex);
};
Registry& Files() {
  static auto* registry = new Registry;
  return *registry;
}

struct ReadHandle : duckdb::FileHandle {
  ReadHandle(duckdb::FileSystem& fs, const std::string& path, duckdb::FileOpenFlags flags,
             std::shared_ptr<const std::string> bytes)
      : FileHandle(fs, path, flags), bytes(std::move(bytes)) {}
  void Close() override {}
  std::shared_ptr<const std::string> bytes;
  duckdb::idx_t position = 0;
};

/// Reads MemoryFiles.
class MemoryFs : public duckdb::FileSystem {
 public:
  duckdb::unique_ptr<duckdb::FileHandle> OpenFile(const std::string& path, duckdb::FileOpenFlags flags,
                                                  duckdb::optional_ptr<duckdb::FileOpener>) override {
    auto& r = Files();
    MutexLock lock(r.mutex);
    auto it = r.files.find(path);
    if (it == r.files.end()) throw duckdb::IOException("no such memory file");
    return duckdb::make_uniq<ReadHandle>(*this, path, flags, it->second);
  }
  void Read(duckdb::FileHandle& handle, void* buffer, int64_t n, duckdb::idx_t location) override {
    auto& bytes = *static_cast<ReadHandle&>(handle).bytes;
    if (n < 0 || location > bytes.size() || uint64_t(n) > bytes.size() - location)
      throw duckdb::IOException("read past the end of a file of %llu bytes", (unsigned long long)bytes.size());
    std::memcpy(buffer, bytes.data() + location, n);
  }
  int64_t Read(duckdb::FileHandle& handle, void* buffer, int64_t n) override {
    auto& h = static_cast<ReadHandle&>(handle);
    n = std::min<int64_t>(n, h.bytes->size() - h.position);
    Read(handle, buffer, n, h.position);
    h.position += n;
    return n;
  }
  int64_t GetFileSize(duckdb::FileHandle& handle) override { return static_cast<ReadHandle&>(handle).bytes->size(); }
  duckdb::timestamp_t GetLastModifiedTime(duckdb::FileHandle&) override { return duckdb::timestamp_t(0); }
  duckdb::FileType GetFileType(duckdb::FileHandle&) override { return duckdb::FileType::FILE_TYPE_REGULAR; }
  bool FileExists(const std::string& path, duckdb::optional_ptr<duckdb::FileOpener>) override {
    auto& r = Files();
    MutexLock lock(r.mutex);
    return r.files.contains(path);
  }
  duckdb::vector<duckdb::OpenFileInfo> Glob(const std::string& path, duckdb::FileOpener*) override {
    return {duckdb::OpenFileInfo(path)};
  }
  void Seek(duckdb::FileHandle& handle, duckdb::idx_t location) override {
    auto& h = static_cast<ReadHandle&>(handle);
    h.position = std::min<duckdb::idx_t>(location, h.bytes->size());
  }
  duckdb::idx_t SeekPosition(duckdb::FileHandle& handle) override { return static_cast<ReadHandle&>(handle).position; }
  bool CanSeek() override { return true; }
  bool OnDiskFile(duckdb::FileHandle&) override { return true; }
  bool CanHandleFile(const std::string& path) override { return path.starts_with(kPrefix); }
  std::string GetName() const override { return "TidewaterMemory"; }
};

}  // namespace

std::unique_ptr<duckdb::Connection> Connect() {
  static duckdb::DuckDB* db = [] {
    duckdb::DBConfig config;
    config.options.maximum_threads = 1;
    config.SetOptionByName("temp_directory", duckdb::Value(""));  // nothing here is meant to spill
    config.SetOptionByName("autoinstall_known_extensions", duckdb::Value::BOOLEAN(false));
    config.SetOptionByName("autoload_known_extensions", duckdb::Value::BOOLEAN(false));
    auto* made = new duckdb::DuckDB(nullptr, &config);
    duckdb::FileSystem::GetFileSystem(*made->instance).RegisterSubSystem(duckdb::make_uniq<MemoryFs>());
    return made;
  }();
  return std::make_unique<duckdb::Connection>(*db);
}

std::string DuckMessage(const std::exception& e) { return duckdb::ErrorData(e).RawMessage(); }

MemoryFile::MemoryFile(std::string bytes) {
  auto& r = Files();
  MutexLock lock(r.mutex);
  path_ = fmt::format("{}{}.parquet", kPrefix, r.next++);
  r.files[path_] = std::make_shared<const std::string>(std::move(bytes));
}

MemoryFile::~MemoryFile() {
  auto& r = Files();
  MutexLock lock(r.mutex);
  r.files.erase(path_);
}

}  // namespace tidewater::lake
