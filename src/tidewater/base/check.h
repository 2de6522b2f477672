// Checks for our own bugs: they print what was compared and stop the process before anything wrong is written; where
// one object's work is fenced off (ChecksThrow), that object alone.
#pragma once
#include <stdexcept>
#include <string>
#include <fmt/format.h>

namespace tidewater {
[[noreturn]] void CheckFailed(const char* file, int line, const char* expr, const std::string& values);

/// A check that failed under ChecksThrow.
class CheckError : public std::logic_error {
  using std::logic_error::logic_error;
};

/// While one of these lives, a failed check of this thread throws CheckError. For work whose state can be thrown away
/// as a whole: who catches it must not go on with that state.
class ChecksThrow {
 public:
  ChecksThrow();
  ~ChecksThrow();
  ChecksThrow(const ChecksThrow&) = delete;
  ChecksThrow& operator=(const ChecksThrow&) = delete;
};
}  // namespace tidewater

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
