// A string that must never be printed: passwords, keys, tokens.
#pragma once
#include <string>
#include <utility>
#include <fmt/format.h>

namespace tidewater {
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value) : value_(std::move(value)) {}
  /// The clear text, for the one place that hands it to the other side.
  const std::string& Reveal() const { return value_; }
  bool empty() const { return value_.empty(); }
  bool operator==(const Secret&) const = default;

 private:
  std::string value_;
};

/// Whether an option of a WITH clause holds a secret by its name (`password`, `s3.secret.access.key`, …).
bool IsSecretOption(const std::string& option);
}  // namespace tidewater

template <>
struct fmt::formatter<tidewater::Secret> : fmt::formatter<std::string> {
  auto format(const tidewater::Secret&, fmt::format_context& ctx) const {
    return fmt::formatter<std::string>::format("[REDACTED]", ctx);
  }
};
