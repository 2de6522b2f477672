#include "tidewater/base/check.h"
#include <cstdio>
#include <cstdlib>

namespace tidewater {
namespace {
thread_local int checks_throw = 0;
}  // namespace

ChecksThrow::ChecksThrow() { checks_throw++; }
ChecksThrow::~ChecksThrow() { checks_throw--; }

void CheckFailed(const char* file, int line, const char* expr, const std::string& values) {
  if (checks_throw > 0) throw CheckError(fmt::format("{}:{}: check failed: {} {}", file, line, expr, values));
  std::fprintf(stderr, "%s:%d: check failed: %s %s\n", file, line, expr, values.c_str());
  std::fflush(stderr);
  std::abort();
}
}  // namespace tidewater
