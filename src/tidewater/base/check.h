// Checks for our own bugs: they print what was compared and stop the process before anything wrong is written.
#pragma once
#include <string>
#include <fmt/format.h>

namespace tidewater {
[[noreturn]] void CheckFailed(const char* file, int line, const char* expr, const std::string& values);
}

#define TW_CHECK(cond, ...)                                                                              \
  do {                                                                                                   \
    if (!(cond)) [[unlikely]]                                                                            \
      ::tidewater::CheckFailed(__FILE__, __LINE__, #cond, ::tidewater::internal::Describe(__VA_ARGS__)); \
  } while (0)
#define TW_CHECK_EQ(a, b) TW_CHECK((a) == (b), "{} vs {}", (a), (b))
#define TW_CHECK_LE(a, b) TW_CHECK((a) <= (b), "{} vs {}", (a), (b))
#define TW_CHECK_LT(a, b) TW_CHECK((a) < (b), "{} vs {}", (a), (b))

namespace tidewater::internal {
inline std::string Describe() { return {}; }
template <class... Args>
std::string Describe(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace tidewater::internal
