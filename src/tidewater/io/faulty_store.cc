#include "tidewater/io/faulty_store.h"

namespace tidewater::io {
namespace {
/// SplitMix64: the same seed and number give the same fate, whatever the threads do.
uint64_t Mix(uint64_t seed, uint64_t n) {
  uint64_t z = seed + n * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
}  // namespace

Error FaultyStore::Failure() const {
  return mode_ == Mode::kCrash ? EnvError(ErrorKind::kIo, "the faulty store has crashed")
                               : EnvError(ErrorKind::kUnavailable, "the faulty store failed on purpose");
}

FaultyStore::Fate FaultyStore::NextWrite() {
  uint64_t n = ++writes_;
  if (crashed_) return Fate::kFailBefore;
  if (n < at_) return Fate::kPass;
  uint64_t random = Mix(seed_, n);
  switch (mode_) {
    case Mode::kFail:
      return n == at_ ? Fate::kFailBefore : Fate::kPass;
    case Mode::kCrash:
      crashed_ = true;
      return random & 1 ? Fate::kFailAfter : Fate::kFailBefore;
    case Mode::kRandom:
      if (random % 8 != 0) return Fate::kPass;
      return random & 8 ? Fate::kFailAfter : Fate::kFailBefore;
  }
  return Fate::kPass;
}

template <class F>
auto FaultyStore::Write(F operation) -> decltype(operation()) {
  Fate fate = NextWrite();
  if (fate == Fate::kFailBefore) return std::unexpected(Failure());
  auto outcome = operation();
  if (fate == Fate::kFailAfter) return std::unexpected(Failure());
  return outcome;
}

template <class F>
auto FaultyStore::Read(F operation) -> decltype(operation()) {
  if (crashed_) return std::unexpected(Failure());
  return operation();
}

Status FaultyStore::Put(const std::string& key, std::string_view bytes) {
  return Write([&] { return inner_->Put(key, bytes); });
}
Status FaultyStore::PutIfAbsent(const std::string& key, std::string_view bytes) {
  return Write([&] { return inner_->PutIfAbsent(key, bytes); });
}
Result<std::string> FaultyStore::PutIfMatch(const std::string& key, std::string_view bytes, const std::string& etag) {
  return Write([&] { return inner_->PutIfMatch(key, bytes, etag); });
}
Result<std::pair<std::string, std::string>> FaultyStore::GetWithTag(const std::string& key) {
  return Read([&] { return inner_->GetWithTag(key); });
}
Result<std::string> FaultyStore::Get(const std::string& key) {
  return Read([&] { return inner_->Get(key); });
}
Result<std::string> FaultyStore::GetRange(const std::string& key, uint64_t offset, uint64_t length) {
  return Read([&] { return inner_->GetRange(key, offset, length); });
}
Result<ObjectInfo> FaultyStore::Stat(const std::string& key) {
  return Read([&] { return inner_->Stat(key); });
}
Result<std::vector<ObjectInfo>> FaultyStore::List(const std::string& prefix) {
  return Read([&] { return inner_->List(prefix); });
}
Status FaultyStore::Delete(const std::string& key) {
  return Write([&] { return inner_->Delete(key); });
}

}  // namespace tidewater::io
