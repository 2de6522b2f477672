#include "tidewater/base/fault.h"
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

namespace tidewater {
namespace {
struct Armed {
  std::string name;
  std::atomic<long> remaining{0};
  Armed() {
    const char* env = std::getenv("TIDEWATER_FAULT");
    if (!env) return;
    const char* colon = std::strrchr(env, ':');
    name = colon ? std::string(env, colon) : env;
    remaining = colon ? std::atol(colon + 1) : 1;
  }
};
}  // namespace

void FaultPoint(const char* name) {
  static Armed armed;
  if (armed.name.empty() || armed.name != name) return;
  if (armed.remaining.fetch_sub(1) == 1) kill(getpid(), SIGKILL);
}
}  // namespace tidewater
