#include "tidewater/io/local_store.h"
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include "tidewater/base/clock.h"
#include "tidewater/io/object_key.h"

namespace tidewater::io {
namespace {
namespace fs = std::filesystem;

constexpr const char* kTempFolder = ".tmp";
constexpr int64_t kTempMaxAgeMs = 3'600'000;

Error OsError(const char* what, const std::string& path, int error) {
  auto kind = error == ENOENT ? ErrorKind::kNotFound : error == EEXIST ? ErrorKind::kAlreadyExists : ErrorKind::kIo;
  return EnvError(kind, "could not {} \"{}\": {}", what, path, std::strerror(error));
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int Close() { return close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

int64_t ModifiedMs(const struct stat& st) { return int64_t(st.st_mtim.tv_sec) * 1000 + st.st_mtim.tv_nsec / 1'000'000; }

Result<std::string> ReadRange(int fd, const std::string& path, uint64_t offset, uint64_t length) {
  std::string out(length, '\0');
  size_t done = 0;
  while (done < length) {
    ssize_t n = pread(fd, out.data() + done, length - done, off_t(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(OsError("read", path, errno));
    if (n == 0) break;
    done += size_t(n);
  }
  out.resize(done);
  return out;
}

class LocalStore final : public ObjectStore {
 public:
  explicit LocalStore(std::string root) : root_(std::move(root)) {}

  std::string Uri() const override { return "file://" + root_; }
  std::optional<std::string> LocalRoot() const override { return root_; }

  Status Put(const std::string& key, std::string_view bytes) override {
    TW_TRY(CheckKey(key));
    TW_ASSIGN(Temp temp, WriteTemp(bytes));
    return Publish(temp, key);
  }

  Status PutIfAbsent(const std::string& key, std::string_view bytes) override {
    TW_TRY(CheckKey(key));
    TW_ASSIGN(std::string folder, MakeParent(key));
    // Saves the write where the object is plainly there; link(2) decides.
    if (access(Path(key).c_str(), F_OK) == 0) return std::unexpected(OsError("create", Path(key), EEXIST));
    TW_ASSIGN(Temp temp, WriteTemp(bytes));
    if (link(temp.path.c_str(), Path(key).c_str()) != 0) return std::unexpected(OsError("create", Path(key), errno));
    return SyncFolder(folder);
  }

  Result<std::string> PutIfMatch(const std::string& key, std::string_view bytes, const std::string& etag) override {
    TW_TRY(CheckKey(key));
    // The parent folder itself is the lock: no lock file to clean up, and it holds between threads and processes.
    std::string folder = fs::path(Path(key)).parent_path();
    Fd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    auto lost = [&] {
      return std::unexpected(EnvError(ErrorKind::kCommitFailed, "\"{}\" was changed by another writer", Path(key)));
    };
    if (!lock && errno == ENOENT) return lost();
    if (!lock) return std::unexpected(OsError("open", folder, errno));
    while (flock(lock.get(), LOCK_EX) != 0)
      if (errno != EINTR) return std::unexpected(OsError("lock", folder, errno));
    auto current = GetWithTag(key);
    if (!current && current.error().kind == ErrorKind::kNotFound) return lost();
    if (!current) return std::unexpected(current.error());
    if (current->second != etag) return lost();
    TW_ASSIGN(Temp temp, WriteTemp(bytes));
    TW_TRY(Publish(temp, key));
    return ContentTag(bytes);
  }

  Result<std::pair<std::string, std::string>> GetWithTag(const std::string& key) override {
    TW_ASSIGN(std::string bytes, Get(key));
    std::string tag = ContentTag(bytes);
    return std::pair(std::move(bytes), std::move(tag));
  }

  Result<std::string> Get(const std::string& key) override { return Read(key, 0, ~uint64_t{0}); }
  Result<std::string> GetRange(const std::string& key, uint64_t offset, uint64_t length) override {
    return Read(key, offset, length);
  }

  Result<ObjectInfo> Stat(const std::string& key) override {
    TW_TRY(CheckKey(key));
    struct stat st;
    if (stat(Path(key).c_str(), &st) != 0) return std::unexpected(OsError("stat", Path(key), NotFound(errno)));
    if (!S_ISREG(st.st_mode)) return std::unexpected(OsError("stat", Path(key), ENOENT));
    return ObjectInfo{key, uint64_t(st.st_size), ModifiedMs(st)};
  }

  Result<std::vector<ObjectInfo>> List(const std::string& prefix) override {
    TW_TRY(CheckPrefix(prefix));
    std::vector<ObjectInfo> out;
    size_t slash = prefix.rfind('/');
    TW_TRY(Walk(slash == prefix.npos ? "" : prefix.substr(0, slash + 1), prefix, out));
    std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.key < b.key; });
    return out;
  }

  Status Delete(const std::string& key) override {
    TW_TRY(CheckKey(key));
    if (unlink(Path(key).c_str()) != 0 && NotFound(errno) != ENOENT)
      return std::unexpected(OsError("delete", Path(key), errno));
    return {};
  }

  /// Removes what crashed writers left behind. Younger files may belong to a writer that is alive.
  void RemoveStaleTemps() {
    std::error_code ec;
    for (auto it = fs::directory_iterator(root_ + "/" + kTempFolder, ec); !ec && it != fs::directory_iterator();
         it.increment(ec)) {
      struct stat st;
      if (stat(it->path().c_str(), &st) == 0 && ModifiedMs(st) + kTempMaxAgeMs < WallMicros() / 1000)
        unlink(it->path().c_str());
    }
  }

 private:
  /// A file without its final name; removed unless it was renamed.
  struct Temp {
    std::string path;
    explicit Temp(std::string p) : path(std::move(p)) {}
    Temp(Temp&& o) : path(std::exchange(o.path, {})) {}
    Temp& operator=(Temp&&) = delete;
    ~Temp() {
      if (!path.empty()) unlink(path.c_str());
    }
  };

  std::string Path(const std::string& key) const { return root_ + "/" + key; }
  /// A key below a plain file is as absent as any other.
  static int NotFound(int error) { return error == ENOTDIR || error == EISDIR ? ENOENT : error; }

  /// Creates the key's folder and makes each new entry durable. Returns the folder.
  Result<std::string> MakeParent(const std::string& key) {
    std::string folder = fs::path(Path(key)).parent_path();
    TW_TRY(MakeFolder(folder));
    return folder;
  }

  Status MakeFolder(const std::string& folder) {
    if (mkdir(folder.c_str(), 0777) == 0) return SyncFolder(fs::path(folder).parent_path());
    if (errno == EEXIST) return {};
    if (errno != ENOENT || folder.size() <= root_.size()) return std::unexpected(OsError("create", folder, errno));
    TW_TRY(MakeFolder(fs::path(folder).parent_path()));
    return MakeFolder(folder);
  }

  /// Durable bytes under a name in ROOT/.tmp.
  Result<Temp> WriteTemp(std::string_view bytes) {
    static const uint32_t random = std::random_device{}();
    static std::atomic<uint64_t> count{0};
    for (bool made_folder = false;;) {
      std::string name = fmt::format("{}/{}/{:08x}{:08x}-{}", root_, kTempFolder, getpid(), random, count++);
      Fd fd(open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (fd) return Fill(fd, Temp(name), bytes);
      // A forked process, or one with the same numbers that was killed, may have left a file of this name: the next
      // one.
      if (errno == EEXIST) continue;
      if (errno != ENOENT || std::exchange(made_folder, true)) return std::unexpected(OsError("create", name, errno));
      TW_TRY(MakeFolder(fs::path(name).parent_path()));
    }
  }

  static Result<Temp> Fill(Fd& fd, Temp temp, std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = write(fd.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return std::unexpected(OsError("write", temp.path, errno));
      bytes.remove_prefix(size_t(n));
    }
    if (fsync(fd.get()) != 0) return std::unexpected(OsError("sync", temp.path, errno));
    if (fd.Close() != 0) return std::unexpected(OsError("close", temp.path, errno));
    return temp;
  }

  Status Publish(Temp& temp, const std::string& key) {
    TW_ASSIGN(std::string folder, MakeParent(key));
    if (rename(temp.path.c_str(), Path(key).c_str()) != 0)
      return std::unexpected(OsError("rename to", Path(key), errno));
    temp.path.clear();
    return SyncFolder(folder);
  }

  Result<std::string> Read(const std::string& key, uint64_t offset, uint64_t length) {
    TW_TRY(CheckKey(key));
    Fd fd(open(Path(key).c_str(), O_RDONLY | O_CLOEXEC));
    struct stat st;
    if (!fd) return std::unexpected(OsError("open", Path(key), NotFound(errno)));
    if (fstat(fd.get(), &st) != 0) return std::unexpected(OsError("stat", Path(key), errno));
    if (!S_ISREG(st.st_mode)) return std::unexpected(OsError("open", Path(key), ENOENT));
    uint64_t size = uint64_t(st.st_size);
    if (offset >= size) return std::string();
    return ReadRange(fd.get(), Path(key), offset, std::min(length, size - offset));
  }

  /// Adds the objects below `folder` ("" or "a/b/") whose key starts with `prefix`.
  Status Walk(const std::string& folder, const std::string& prefix, std::vector<ObjectInfo>& out) {
    std::error_code ec;
    fs::directory_iterator it(Path(folder), ec);
    if (ec && NotFound(ec.value()) == ENOENT) return {};
    for (; !ec && it != fs::directory_iterator(); it.increment(ec)) {
      // A store may have been opened at a folder of ours: its temporary files are no objects either.
      std::string name = it->path().filename().string();
      if (name == kTempFolder) continue;
      std::string key = folder + name;
      struct stat st;
      if (stat(Path(key).c_str(), &st) != 0) {
        if (errno == ENOENT) continue;  // gone since the folder was read
        return std::unexpected(OsError("stat", Path(key), errno));
      }
      if (S_ISDIR(st.st_mode)) {
        key += '/';
        std::string_view shorter = std::string_view(prefix).substr(0, key.size());
        if (key.starts_with(shorter)) TW_TRY(Walk(key, prefix, out));
      } else if (S_ISREG(st.st_mode) && key.starts_with(prefix)) {
        out.push_back({std::move(key), uint64_t(st.st_size), ModifiedMs(st)});
      }
    }
    if (ec) return std::unexpected(OsError("list", Path(folder), ec.value()));
    return {};
  }

  const std::string root_;
};
}  // namespace

Status SyncFolder(const std::string& folder) {
  Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return std::unexpected(OsError("open", folder, errno));
  // Some file systems cannot sync a folder and need not.
  if (fsync(fd.get()) != 0 && errno != EINVAL) return std::unexpected(OsError("sync", folder, errno));
  return {};
}

Result<std::shared_ptr<ObjectStore>> OpenLocalStore(const std::string& folder) {
  std::error_code ec;
  fs::create_directories(folder, ec);
  if (ec) return std::unexpected(OsError("create", folder, ec.value()));
  fs::path root = fs::canonical(folder, ec);
  if (ec) return std::unexpected(OsError("open", folder, ec.value()));
  auto store = std::make_shared<LocalStore>(root.string());
  store->RemoveStaleTemps();
  return store;
}

}  // namespace tidewater::io
