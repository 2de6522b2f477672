// Percent encoding (RFC 3986), and namespaces as one path segment.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidewater::iceberg {

/// Everything but letters, digits and "-._~" is encoded.
std::string PercentEncode(std::string_view text);
/// nullopt for a '%' without two hexadecimal digits. '+' stays.
std::optional<std::string> PercentDecode(std::string_view text);
/// "a=b&c=d"; '+' is a space. nullopt when it does not decode.
std::optional<std::map<std::string, std::string>> ParseQuery(std::string_view query);

/// Levels joined by U+001F, percent-encoded.
std::string EncodeNamespace(const std::vector<std::string>& ns);
std::vector<std::string> SplitNamespace(std::string_view decoded);

}  // namespace tidewater::iceberg
