// Result<T> and Error: how everything that can fail says so.
#pragma once
#include <expected>
#include <string>
#include <utility>
#include <fmt/format.h>

namespace tidewater {

/// What a caller can do about a failure. Kinds are acted on; the text is for people.
enum class ErrorKind {
  kUser,                ///< the statement or its values are wrong; sqlstate says how
  kNotFound,            ///< a file, object, table or row that was asked for does not exist
  kAlreadyExists,       ///< a conditional create found something there
  kCommitFailed,        ///< an optimistic commit lost: refresh and try again on the new base
  kCommitStateUnknown,  ///< a commit may or may not have happened: look before trying again
  kConflict,            ///< a commit cannot be retried: another writer changed what it depends on
  kUnavailable,         ///< the other side does not answer now; trying again may help
  kAuthentication,      ///< credentials were refused: waits for a statement
  kCorrupt,             ///< bytes from outside or from disk that break their format
  kIo,                  ///< the operating system or the store failed
  kUnsupported,         ///< understood and refused
  kCancelled,           ///< the user cancelled
  kInternal,            ///< our own bug
};

/// A PostgreSQL-style error: five characters of SQLSTATE, a message with the offending value, and what helps.
struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string sqlstate = "XX000";
  std::string message;
  std::string detail;
  std::string hint;
  /// 1-based character position in the statement, 0 when unknown.
  int position = 0;

  Error&& WithDetail(std::string d) && {
    detail = std::move(d);
    return std::move(*this);
  }
  Error&& WithHint(std::string h) && {
    hint = std::move(h);
    return std::move(*this);
  }
  Error&& WithPosition(int p) && {
    position = p;
    return std::move(*this);
  }
  /// One line: message, and detail behind it where there is one.
  std::string ToString() const { return detail.empty() ? message : message + ": " + detail; }
};

template <class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// A user's error with its SQLSTATE (PostgreSQL manual, appendix A).
template <class... Args>
Error UserError(std::string sqlstate, fmt::format_string<Args...> format, Args&&... args) {
  return Error{ErrorKind::kUser, std::move(sqlstate), fmt::format(format, std::forward<Args>(args)...), {}, {}, 0};
}

/// The environment's failure: a kind to act on, and the SQLSTATE that a client sees (58030 where nothing fits better).
template <class... Args>
Error EnvError(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  std::string state = "58030";
  switch (kind) {
    case ErrorKind::kUnavailable:
      state = "08006";
      break;
    case ErrorKind::kAuthentication:
      state = "28P01";
      break;
    case ErrorKind::kUnsupported:
      state = "0A000";
      break;
    case ErrorKind::kCancelled:
      state = "57014";
      break;
    case ErrorKind::kCorrupt:
      state = "XX001";
      break;
    case ErrorKind::kNotFound:
      state = "58P01";
      break;
    case ErrorKind::kInternal:
      state = "XX000";
      break;
    case ErrorKind::kCommitFailed:
      state = "40001";
      break;
    default:
      break;
  }
  return Error{kind, state, fmt::format(format, std::forward<Args>(args)...), {}, {}, 0};
}

/// Returns the error of `expr` (a Result or Status) to the caller.
#define TW_TRY(expr)                                                              \
  do {                                                                            \
    auto&& tw_try_status = (expr);                                                \
    if (!tw_try_status) return std::unexpected(std::move(tw_try_status).error()); \
  } while (0)

#define TW_CONCAT_(a, b) a##b
#define TW_CONCAT(a, b) TW_CONCAT_(a, b)
/// `TW_ASSIGN(auto x, F());` takes the value of F() or returns its error.
#define TW_ASSIGN(decl, expr) TW_ASSIGN_(TW_CONCAT(tw_assign_, __LINE__), decl, expr)
#define TW_ASSIGN_(tmp, decl, expr)                         \
  auto tmp = (expr);                                        \
  if (!tmp) return std::unexpected(std::move(tmp).error()); \
  decl = std::move(tmp).value()

}  // namespace tidewater
