#include "tidewater/iceberg/url.h"
#include <fmt/format.h>

namespace tidewater::iceberg {
namespace {
int Hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

std::string PercentEncode(std::string_view text) {
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                 c == '_' || c == '~';
    if (plain)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size() || Hex(text[i + 1]) < 0 || Hex(text[i + 2]) < 0) return std::nullopt;
    out += char(Hex(text[i + 1]) * 16 + Hex(text[i + 2]));
    i += 2;
  }
  return out;
}

std::optional<std::map<std::string, std::string>> ParseQuery(std::string_view query) {
  std::map<std::string, std::string> out;
  while (!query.empty()) {
    size_t end = std::min(query.find('&'), query.size());
    std::string part(query.substr(0, end));
    query.remove_prefix(std::min(end + 1, query.size()));
    for (char& c : part) {
      if (c == '+') c = ' ';
    }
    if (part.empty()) continue;
    size_t equals = std::min(part.find('='), part.size());
    auto key = PercentDecode(std::string_view(part).substr(0, equals));
    auto value = PercentDecode(equals < part.size() ? std::string_view(part).substr(equals + 1) : std::string_view());
    if (!key || !value) return std::nullopt;
    out[*key] = *value;
  }
  return out;
}

std::string EncodeNamespace(const std::vector<std::string>& ns) {
  std::string out;
  for (const std::string& level : ns) {
    if (!out.empty()) out += "%1F";
    out += PercentEncode(level);
  }
  return out;
}

std::vector<std::string> SplitNamespace(std::string_view decoded) {
  std::vector<std::string> out;
  while (true) {
    size_t end = decoded.find('\x1f');
    out.emplace_back(decoded.substr(0, end));
    if (end == decoded.npos) return out;
    decoded.remove_prefix(end + 1);
  }
}

}  // namespace tidewater::iceberg
