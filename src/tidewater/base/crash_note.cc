#include "tidewater/base/crash_note.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>

namespace tidewater::crash_note {
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
constexpr int64_t kManyNotesUs = 600'000'000;
constexpr size_t kHandlerStackBytes = 64 * 1024;

/// As it lies in the file.
struct Record {
  uint64_t magic;
  uint64_t checkpoint;
  int64_t wall_time_us;
  uint32_t object;
  int32_t part;
  int32_t signal;
  uint32_t check;
};
static_assert(sizeof(Record) == 40);
constexpr uint64_t kMagic = 0x31657437'6e636457;

uint32_t CheckOf(const Record& r) {
  uint32_t words[9], sum = 0x9e3779b9;
  std::memcpy(words, &r, sizeof words);
  for (auto w : words) sum = (sum ^ w) * 0x01000193;
  return sum;
}

/// Object in the upper half, part in the lower; 0 = none. Only this thread and a handler that runs on it look.
thread_local uint64_t working_for = 0;

std::atomic<int> file{-1};
std::atomic<uint64_t> newest_checkpoint{0};
struct sigaction before[std::size(kSignals)];

/// Async-signal-safe.
void Handle(int signal, siginfo_t*, void*) {
  int saved = errno;
  uint64_t work = working_for;
  int fd = file.load();
  if (work != 0 && fd >= 0) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    Record r{kMagic,
             newest_checkpoint.load(),
             int64_t(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000,
             uint32_t(work >> 32),
             int32_t(uint32_t(work)),
             signal,
             0};
    r.check = CheckOf(r);
    [[maybe_unused]] auto written = write(fd, &r, sizeof r);
    fsync(fd);
  }
  errno = saved;
  // The process dies of the signal as it would have: the faulting instruction runs again, or abort() goes on.
  for (size_t i = 0; i < std::size(kSignals); i++)
    if (kSignals[i] == signal) sigaction(signal, &before[i], nullptr);
  if (signal == SIGABRT) raise(signal);
}

}  // namespace

WorkingFor::WorkingFor(ObjectId object, int32_t part) : before_(working_for) {
  working_for = uint64_t(object) << 32 | uint32_t(part);
}
WorkingFor::~WorkingFor() { working_for = before_; }

HandlerStack::HandlerStack() {
  memory_ = mmap(nullptr, kHandlerStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) {
    memory_ = nullptr;
    return;
  }
  stack_t stack{};
  stack.ss_sp = memory_;
  stack.ss_size = kHandlerStackBytes;
  sigaltstack(&stack, nullptr);
}
HandlerStack::~HandlerStack() {
  if (!memory_) return;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  sigaltstack(&none, nullptr);
  munmap(memory_, kHandlerStackBytes);
}

Status Install(const std::string& path) {
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0)
    return std::unexpected(EnvError(ErrorKind::kIo, "cannot open \"{}\" for crash notes: {}", path, strerror(errno)));
  int old = file.exchange(fd);
  if (old >= 0) {
    close(old);
    return {};
  }
  struct sigaction action{};
  action.sa_sigaction = Handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < std::size(kSignals); i++) sigaction(kSignals[i], &action, &before[i]);
  return {};
}

void Uninstall(bool forget) {
  int fd = file.exchange(-1);
  if (fd < 0) return;
  for (size_t i = 0; i < std::size(kSignals); i++) sigaction(kSignals[i], &before[i], nullptr);
  if (forget) [[maybe_unused]]
    auto cut = ftruncate(fd, 0);
  close(fd);
}

void SetCheckpoint(CheckpointId checkpoint) { newest_checkpoint.store(checkpoint); }

std::vector<Note> Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  std::vector<Note> notes;
  for (size_t at = 0; at + sizeof(Record) <= bytes.size();) {
    Record r;
    std::memcpy(&r, bytes.data() + at, sizeof r);
    if (r.magic != kMagic || r.check != CheckOf(r)) {
      at++;
      continue;
    }
    notes.push_back({r.checkpoint, r.wall_time_us, r.object, r.part, r.signal});
    at += sizeof r;
  }
  return notes;
}

Status Write(const std::string& path, const std::vector<Note>& notes) {
  std::string bytes;
  for (auto& n : notes) {
    Record r{kMagic, n.checkpoint, n.wall_time_us, n.object, n.part, n.signal, 0};
    r.check = CheckOf(r);
    bytes.append(reinterpret_cast<const char*>(&r), sizeof r);
  }
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), std::streamsize(bytes.size()));
  out.flush();
  if (!out) return std::unexpected(EnvError(ErrorKind::kIo, "cannot write \"{}\"", path));
  return {};
}

std::vector<Note> Blamed(const std::vector<Note>& notes, CheckpointId checkpoint, int64_t now_us) {
  struct Count {
    int here = 0, recent = 0;
    Note newest;
  };
  std::map<ObjectId, Count> counts;
  for (auto& n : notes) {
    auto& c = counts[n.object];
    c.here += n.checkpoint == checkpoint;
    c.recent += n.wall_time_us > now_us - kManyNotesUs && n.wall_time_us <= now_us + kManyNotesUs;
    c.newest = n;
  }
  std::vector<Note> out;
  for (auto& [object, c] : counts)
    if (c.here >= 2 || c.recent >= 3) out.push_back(c.newest);
  return out;
}

}  // namespace tidewater::crash_note
