#include "tidewater/base/check.h"
#include <cstdio>
#include <cstdlib>

namespace tidewater {
void CheckFailed(const char* file, int line, const char* expr, const std::string& values) {
  std::fprintf(stderr, "%s:%d: check failed: %s %s\n", file, line, expr, values.c_str());
  std::fflush(stderr);
  std::abort();
}
}  // namespace tidewater
