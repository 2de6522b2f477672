#include "tidewater/io/sigv4.h"
#include <algorithm>
#include <fmt/chrono.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include "tidewater/base/check.h"

namespace tidewater::io {
namespace {
std::string Hex(std::string_view bytes) {
  std::string out;
  for (unsigned char c : bytes) fmt::format_to(std::back_inserter(out), "{:02x}", c);
  return out;
}

std::string Hmac(std::string_view key, std::string_view text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int n = 0;
  auto* ok = HMAC(EVP_sha256(), key.data(), int(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
                  text.size(), out, &n);
  TW_CHECK(ok != nullptr, "HMAC failed");
  return std::string(reinterpret_cast<char*>(out), n);
}

/// Leading and trailing blanks go, inner runs become one.
std::string Trimmed(std::string_view value) {
  std::string out;
  for (char c : value) {
    bool blank = c == ' ' || c == '\t';
    if (!blank) out += c;
    if (blank && !out.empty() && out.back() != ' ') out += ' ';
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}
}  // namespace

std::string UriEncode(std::string_view text, bool keep_slash) {
  std::string out;
  for (unsigned char c : text) {
    bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                 c == '_' || c == '~' || (c == '/' && keep_slash);
    if (plain) {
      out += char(c);
    } else {
      fmt::format_to(std::back_inserter(out), "%{:02X}", c);
    }
  }
  return out;
}

std::string Sha256Hex(std::string_view bytes) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int n = 0;
  int ok = EVP_Digest(bytes.data(), bytes.size(), out, &n, EVP_sha256(), nullptr);
  TW_CHECK(ok == 1, "SHA-256 failed");
  return Hex(std::string_view(reinterpret_cast<char*>(out), n));
}

std::string CanonicalQuery(const SignedRequest& request) {
  std::vector<std::pair<std::string, std::string>> encoded;
  for (auto& [name, value] : request.query) encoded.emplace_back(UriEncode(name, false), UriEncode(value, false));
  std::sort(encoded.begin(), encoded.end());
  std::string out;
  for (auto& [name, value] : encoded) out += (out.empty() ? "" : "&") + name + "=" + value;
  return out;
}

std::string SignV4(SignedRequest& request, const AwsCredentials& credentials, const std::string& region,
                   const std::string& service, time_t now) {
  std::string time = fmt::format("{:%Y%m%dT%H%M%SZ}", fmt::gmtime(now));
  std::string day = time.substr(0, 8);
  request.headers["x-amz-date"] = time;
  request.headers["x-amz-content-sha256"] = request.payload_sha256;
  if (!credentials.session_token.empty()) request.headers["x-amz-security-token"] = credentials.session_token.Reveal();

  std::string headers, names;
  for (auto& [name, value] : request.headers) {
    headers += name + ":" + Trimmed(value) + "\n";
    names += (names.empty() ? "" : ";") + name;
  }
  std::string canonical = request.method + "\n" + request.path + "\n" + CanonicalQuery(request) + "\n" + headers +
                          "\n" + names + "\n" + request.payload_sha256;
  std::string scope = day + "/" + region + "/" + service + "/aws4_request";
  std::string to_sign = "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n" + Sha256Hex(canonical);
  std::string key = "AWS4" + credentials.secret_access_key.Reveal();
  for (std::string_view part :
       {std::string_view(day), std::string_view(region), std::string_view(service), std::string_view("aws4_request")})
    key = Hmac(key, part);
  return fmt::format("AWS4-HMAC-SHA256 Credential={}/{},SignedHeaders={},Signature={}", credentials.access_key_id,
                     scope, names, Hex(Hmac(key, to_sign)));
}

}  // namespace tidewater::io
