// AWS Signature Version 4 for requests with a known body (AWS, "Authenticating Requests: Using the Authorization
// Header").
#pragma once
#include <ctime>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include "tidewater/base/secret.h"

namespace tidewater::io {

struct AwsCredentials {
  std::string access_key_id;
  Secret secret_access_key;
  Secret session_token;
};

/// Percent-encodes all but letters, digits and "-._~", and '/' where `keep_slash`.
std::string UriEncode(std::string_view text, bool keep_slash);
std::string Sha256Hex(std::string_view bytes);

/// What is signed. `path` is encoded already; `query` pairs are not. `headers` have lower-case names and hold "host".
struct SignedRequest {
  std::string method;
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
  std::map<std::string, std::string> headers;
  std::string payload_sha256;
};

/// The query as it must be sent: encoded and sorted.
std::string CanonicalQuery(const SignedRequest& request);
/// Adds x-amz-date, x-amz-content-sha256 and, with a session token, x-amz-security-token to the headers, and returns
/// the value of the Authorization header.
std::string SignV4(SignedRequest& request, const AwsCredentials& credentials, const std::string& region,
                   const std::string& service, time_t now);

}  // namespace tidewater::io
