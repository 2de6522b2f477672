#include "tidewater/io/s3_store.h"
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <curl/curl.h>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/base/mutex.h"
#include "tidewater/io/object_key.h"
#include "tidewater/io/s3_listing.h"
#include "tidewater/io/sigv4.h"

namespace tidewater::io {
namespace {
constexpr uint64_t kMaxObjectBytes = 5ULL << 30;
/// Of an answer that is not an object: a listing of 1,000 long keys has about 3 MB.
constexpr size_t kMaxAnswerBytes = 64u << 20;
constexpr int64_t kFirstPauseMs = 50;
constexpr int64_t kLongestPauseMs = 2000;

struct Config {
  std::string bucket;
  std::string prefix;  ///< "" or "a/b/"
  std::string scheme = "https";
  std::string host;         ///< with the port where it is not the scheme's
  std::string path_prefix;  ///< "/bucket" in path style
  std::string region = "us-east-1";
  AwsCredentials credentials;
  int64_t retry_ms = 30'000;
  std::string uri;
};

struct Request {
  std::string method;
  std::string key;  ///< within the bucket; empty for the bucket itself
  std::vector<std::pair<std::string, std::string>> query;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string_view body;
  size_t max_answer_bytes = kMaxAnswerBytes;
};

struct Response {
  long status = 0;
  std::map<std::string, std::string> headers;  ///< lower-case names
  std::string body;
  /// Whether an earlier attempt may have reached the server without its answer reaching us.
  bool after_unknown = false;
};

struct CurlDeleter {
  void operator()(CURL* c) const { curl_easy_cleanup(c); }
  void operator()(curl_slist* l) const { curl_slist_free_all(l); }
};
using CurlHandle = std::unique_ptr<CURL, CurlDeleter>;

struct Sink {
  Response* response;
  size_t limit;
  bool overflow = false;
};

size_t OnBody(char* data, size_t size, size_t n, void* user) {
  auto& sink = *static_cast<Sink*>(user);
  if (sink.response->body.size() + size * n > sink.limit) {
    sink.overflow = true;
    return 0;
  }
  sink.response->body.append(data, size * n);
  return size * n;
}

size_t OnHeader(char* data, size_t size, size_t n, void* user) {
  auto& response = *static_cast<Response*>(user);
  std::string_view line(data, size * n);
  if (line.starts_with("HTTP/")) response.headers.clear();
  size_t colon = line.find(':');
  if (colon == line.npos || response.headers.size() > 200) return size * n;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && std::isspace(static_cast<unsigned char>(value.front()))) value.remove_prefix(1);
  while (!value.empty() && std::isspace(static_cast<unsigned char>(value.back()))) value.remove_suffix(1);
  response.headers[name] = value;
  return size * n;
}

class S3Store final : public ObjectStore {
 public:
  explicit S3Store(Config config) : config_(std::move(config)) {
    static const CURLcode once = curl_global_init(CURL_GLOBAL_DEFAULT);
    TW_CHECK(once == CURLE_OK, "curl_global_init failed");
  }

  std::string Uri() const override { return config_.uri; }

  Status Probe() {
    auto list = ListPage(config_.prefix, "", 1);
    if (!list) return std::unexpected(list.error());
    return {};
  }

  Status Put(const std::string& key, std::string_view bytes) override {
    TW_ASSIGN(auto response, PutObject(key, bytes, {}));
    if (response.status / 100 != 2) return Failed("write", key, response);
    return {};
  }

  Status PutIfAbsent(const std::string& key, std::string_view bytes) override {
    TW_TRY(NeedConditions());
    TW_ASSIGN(auto response, PutObject(key, bytes, {{"If-None-Match", "*"}}));
    if (response.status / 100 == 2) return {};
    if (response.status != 412) return Failed("create", key, response);
    if (response.after_unknown) {
      auto there = Get(key);
      if (there && *there == bytes) return {};
    }
    return std::unexpected(EnvError(ErrorKind::kAlreadyExists, "\"{}\" exists", Name(key)));
  }

  Result<std::string> PutIfMatch(const std::string& key, std::string_view bytes, const std::string& etag) override {
    TW_TRY(NeedConditions());
    auto sent = PutObject(key, bytes, {{"If-Match", etag}});
    if (!sent) {
      Error e = sent.error();
      if (e.kind == ErrorKind::kUnavailable) e.kind = ErrorKind::kCommitStateUnknown;
      return std::unexpected(std::move(e));
    }
    if (sent->status / 100 == 2) return sent->headers["etag"];
    if (sent->status != 412 && sent->status != 404) return Failed("replace", key, *sent);
    if (sent->after_unknown) {
      auto there = GetWithTag(key);
      if (there && there->first == bytes) return there->second;
      return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown,
                                      "\"{}\" may have been replaced by us before another writer did", Name(key)));
    }
    return std::unexpected(EnvError(ErrorKind::kCommitFailed, "\"{}\" was changed by another writer", Name(key)));
  }

  Result<std::pair<std::string, std::string>> GetWithTag(const std::string& key) override {
    TW_ASSIGN(auto response, GetObject(key, {}));
    if (response.status != 200) return Failed("read", key, response);
    auto tag = response.headers.find("etag");
    if (tag == response.headers.end())
      return std::unexpected(EnvError(ErrorKind::kUnsupported, "the server of {} gives no ETag", config_.uri));
    return std::pair(std::move(response.body), std::move(tag->second));
  }

  Result<std::string> Get(const std::string& key) override {
    TW_ASSIGN(auto response, GetObject(key, {}));
    if (response.status != 200) return Failed("read", key, response);
    return std::move(response.body);
  }

  Result<std::string> GetRange(const std::string& key, uint64_t offset, uint64_t length) override {
    if (length == 0) {
      TW_ASSIGN(auto info, Stat(key));
      return std::string();
    }
    uint64_t last = length > UINT64_MAX - offset ? UINT64_MAX : offset + length - 1;
    std::string range =
        last > uint64_t(INT64_MAX) ? fmt::format("bytes={}-", offset) : fmt::format("bytes={}-{}", offset, last);
    TW_ASSIGN(auto response, GetObject(key, {{"Range", range}}));
    if (response.status == 416) return std::string();
    if (response.status == 206) return std::move(response.body);
    if (response.status != 200) return Failed("read", key, response);
    // A server that does not know ranges sends everything.
    if (offset >= response.body.size()) return std::string();
    return response.body.substr(offset, length);
  }

  Result<ObjectInfo> Stat(const std::string& key) override {
    TW_TRY(CheckKey(key));
    TW_ASSIGN(auto response, Send({"HEAD", config_.prefix + key, {}, {}, {}}));
    if (response.status != 200) return Failed("look up", key, response);
    ObjectInfo info;
    info.key = key;
    auto& length = response.headers["content-length"];
    std::from_chars(length.data(), length.data() + length.size(), info.size);
    time_t modified = curl_getdate(response.headers["last-modified"].c_str(), nullptr);
    info.modified_ms = modified < 0 ? 0 : int64_t(modified) * 1000;
    return info;
  }

  Result<std::vector<ObjectInfo>> List(const std::string& prefix) override {
    TW_TRY(CheckPrefix(prefix));
    std::vector<ObjectInfo> out;
    std::string token;
    do {
      TW_ASSIGN(auto page, ListPage(config_.prefix + prefix, token, 1000));
      for (auto& o : page.objects) {
        // Keys outside our prefix cannot be; "a/" is what consoles create as a folder.
        if (!o.key.starts_with(config_.prefix) || o.key.ends_with('/')) continue;
        o.key.erase(0, config_.prefix.size());
        out.push_back(std::move(o));
      }
      token = std::move(page.continuation_token);
    } while (!token.empty());
    std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.key < b.key; });
    return out;
  }

  Status Delete(const std::string& key) override {
    TW_TRY(CheckKey(key));
    TW_ASSIGN(auto response, Send({"DELETE", config_.prefix + key, {}, {}, {}}));
    if (response.status / 100 != 2 && response.status != 404) return Failed("delete", key, response);
    return {};
  }

 private:
  std::string Name(const std::string& key) const { return config_.uri + "/" + key; }

  Result<Response> PutObject(const std::string& key, std::string_view bytes,
                             std::vector<std::pair<std::string, std::string>> headers) {
    TW_TRY(CheckKey(key));
    if (bytes.size() > kMaxObjectBytes)
      return std::unexpected(EnvError(ErrorKind::kUnsupported,
                                      "\"{}\" would have {} bytes; an object in S3 has at most {}", Name(key),
                                      bytes.size(), kMaxObjectBytes));
    return Send({"PUT", config_.prefix + key, {}, std::move(headers), bytes});
  }

  Result<Response> GetObject(const std::string& key, std::vector<std::pair<std::string, std::string>> headers) {
    TW_TRY(CheckKey(key));
    Request request{"GET", config_.prefix + key, {}, std::move(headers), {}};
    request.max_answer_bytes = kMaxObjectBytes;
    return Send(request);
  }

  Result<S3Listing> ListPage(const std::string& prefix, const std::string& token, int keys) {
    Request request{
        "GET", "", {{"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", std::to_string(keys)}}, {}, {}};
    if (!prefix.empty()) request.query.emplace_back("prefix", prefix);
    if (!token.empty()) request.query.emplace_back("continuation-token", token);
    TW_ASSIGN(auto response, Send(request));
    if (response.status != 200) return Failed("list", prefix, response);
    return ParseS3Listing(response.body);
  }

  /// A server that ignores If-Match would let two writers replace each other's objects. Asked once: a put that must
  /// fail.
  Status NeedConditions() {
    MutexLock lock(conditions_mutex_);
    if (conditions_) return {};
    std::string key = fmt::format(".tidewater-probe-{:016x}", std::random_device{}());
    TW_ASSIGN(auto response, PutObject(key, "", {{"If-Match", "\"d41d8cd98f00b204e9800998ecf8427e\""}}));
    if (response.status / 100 == 2) {
      (void)Delete(key);
      return std::unexpected(EnvError(ErrorKind::kUnsupported,
                                      "the server of {} ignores conditions of PUT requests (If-Match)", config_.uri));
    }
    if (response.status != 412 && response.status != 404) return Failed("write", key, response);
    if (ParseS3Error(response.body).code == "NoSuchBucket") return Failed("write", key, response);
    conditions_ = true;
    return {};
  }

  std::unexpected<Error> Failed(const char* what, const std::string& key, const Response& response) const {
    S3Error s3 = ParseS3Error(response.body);
    std::string why = s3.code.empty() ? fmt::format("HTTP status {}", response.status)
                                      : fmt::format("{}: {} (HTTP status {})", s3.code, s3.message, response.status);
    ErrorKind kind = ErrorKind::kIo;
    std::string hint;
    if (response.status == 404) kind = ErrorKind::kNotFound;
    if (s3.code == "NoSuchBucket") {
      kind = ErrorKind::kIo;
      hint = "Create the bucket first.";
    }
    if (response.status == 401 || response.status == 403) kind = ErrorKind::kAuthentication;
    if (response.status >= 500 || response.status == 429) kind = ErrorKind::kUnavailable;
    auto region = response.headers.find("x-amz-bucket-region");
    if (response.status / 100 == 3 || (region != response.headers.end() && region->second != config_.region))
      hint = region == response.headers.end()
                 ? "Check s3.region and s3.endpoint."
                 : fmt::format("The bucket is in region {}: set s3.region.", region->second);
    return std::unexpected(EnvError(kind, "could not {} \"{}\"", what, Name(key)).WithDetail(why).WithHint(hint));
  }

  // ---- HTTP ----

  static bool WorthAnotherTry(long status) {
    // 409: AWS answers it when two conditional puts of a key meet.
    return status >= 500 || status == 429 || status == 408 || status == 409;
  }

  /// Sends until there is an answer to act on, at most for retry_ms.
  Result<Response> Send(const Request& request) {
    int64_t deadline = MonotonicMicros() + config_.retry_ms * 1000;
    int64_t pause_ms = kFirstPauseMs;
    bool unknown = false;
    for (;;) {
      Response response;
      bool reached = false;
      auto sent = SendOnce(request, response, reached);
      if (sent && !WorthAnotherTry(response.status)) {
        response.after_unknown = unknown;
        return response;
      }
      if (!sent && sent.error().kind != ErrorKind::kUnavailable) return std::unexpected(sent.error());
      unknown |= reached && response.status != 409;
      int64_t pause = pause_ms + int64_t(Jitter() % uint64_t(pause_ms));
      if (MonotonicMicros() + pause * 1000 > deadline) {
        if (!sent) return std::unexpected(sent.error());
        return Failed("reach", request.key.substr(std::min(config_.prefix.size(), request.key.size())), response);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(pause));
      pause_ms = std::min(pause_ms * 2, kLongestPauseMs);
    }
  }

  static uint64_t Jitter() {
    thread_local std::mt19937_64 random(std::random_device{}());
    return random();
  }

  Status SendOnce(const Request& request, Response& response, bool& reached) {
    SignedRequest to_sign;
    to_sign.method = request.method;
    to_sign.path = config_.path_prefix + "/" + UriEncode(request.key, true);
    to_sign.query = request.query;
    to_sign.headers["host"] = config_.host;
    to_sign.payload_sha256 = Sha256Hex(request.body);
    std::string authorization = SignV4(to_sign, config_.credentials, config_.region, "s3", time(nullptr));
    std::string url = config_.scheme + "://" + config_.host + to_sign.path;
    std::string query = CanonicalQuery(to_sign);
    if (!query.empty()) url += "?" + query;

    std::unique_ptr<curl_slist, CurlDeleter> list;
    auto add = [&](const std::string& line) {
      auto* longer = curl_slist_append(list.get(), line.c_str());
      TW_CHECK(longer != nullptr, "out of memory");
      (void)list.release();
      list.reset(longer);
    };
    for (auto& [name, value] : to_sign.headers) add(name + ": " + value);
    for (auto& [name, value] : request.headers) add(name + ": " + value);
    add("Authorization: " + authorization);
    add("Expect:");
    bool put = request.method == "PUT";
    if (put) add("Content-Type: application/octet-stream");

    CurlHandle curl = Take();
    CURL* c = curl.get();
    Sink sink{&response, request.max_answer_bytes};
    char error[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(c, CURLOPT_URL, url.c_str());
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 20L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, list.get());
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, OnBody);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &sink);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, OnHeader);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, &response);
    if (put) {
      curl_easy_setopt(c, CURLOPT_POSTFIELDS, request.body.data() ? request.body.data() : "");
      curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(request.body.size()));
    }
    if (request.method == "HEAD") {
      curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else {
      curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
    CURLcode code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &response.status);
    reached =
        code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_RESOLVE_PROXY;
    if (code == CURLE_OK) {
      Give(std::move(curl));
      return {};
    }
    // The connection of a failed request is not used again: the handle goes.
    std::string why = error[0] ? error : curl_easy_strerror(code);
    response.status = 0;
    bool transient = false;
    switch (code) {
      case CURLE_COULDNT_CONNECT:
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_OPERATION_TIMEDOUT:
      case CURLE_GOT_NOTHING:
      case CURLE_SEND_ERROR:
      case CURLE_RECV_ERROR:
      case CURLE_PARTIAL_FILE:
      case CURLE_SSL_CONNECT_ERROR:
      case CURLE_HTTP2:
      case CURLE_HTTP2_STREAM:
        transient = true;
        break;
      default:
        break;
    }
    if (sink.overflow) why = "the answer is larger than it may be";
    return std::unexpected(
        EnvError(transient ? ErrorKind::kUnavailable : ErrorKind::kIo, "could not reach the server of {}", config_.uri)
            .WithDetail(why));
  }

  /// Handles keep their connection open between requests.
  CurlHandle Take() {
    {
      MutexLock lock(pool_mutex_);
      if (!pool_.empty()) {
        CurlHandle c = std::move(pool_.back());
        pool_.pop_back();
        curl_easy_reset(c.get());
        return c;
      }
    }
    CurlHandle c(curl_easy_init());
    TW_CHECK(c != nullptr, "curl_easy_init failed");
    return c;
  }
  void Give(CurlHandle c) {
    MutexLock lock(pool_mutex_);
    if (pool_.size() < 16) pool_.push_back(std::move(c));
  }

  const Config config_;
  Mutex pool_mutex_;
  std::vector<CurlHandle> pool_ GUARDED_BY(pool_mutex_);
  Mutex conditions_mutex_;
  bool conditions_ GUARDED_BY(conditions_mutex_) = false;
};

/// The option, else the first environment variable that is set, else nothing.
std::string Setting(const std::map<std::string, std::string>& options, const char* option,
                    std::initializer_list<const char*> variables) {
  if (auto it = options.find(option); it != options.end()) return it->second;
  for (auto* name : variables)
    if (const char* value = std::getenv(name); value && *value) return value;
  return {};
}

Result<Config> MakeConfig(const std::string& uri, const std::map<std::string, std::string>& options) {
  auto bad = [](const std::string& what) { return std::unexpected(UserError("22023", "{}", what)); };
  Config c;
  std::string rest = uri.substr(5);
  size_t slash = rest.find('/');
  c.bucket = rest.substr(0, slash);
  c.prefix = slash == rest.npos ? "" : rest.substr(slash + 1);
  while (c.prefix.ends_with('/')) c.prefix.pop_back();
  bool fine = !c.bucket.empty() && std::all_of(c.bucket.begin(), c.bucket.end(), [](unsigned char x) {
    return std::isalnum(x) || x == '.' || x == '-' || x == '_';
  });
  if (!fine || (!c.prefix.empty() && !CheckKey(c.prefix)))
    return bad("\"" + uri + "\" does not name a bucket and a prefix");
  c.uri = "s3://" + c.bucket + (c.prefix.empty() ? "" : "/" + c.prefix);
  if (!c.prefix.empty()) c.prefix += '/';

  c.credentials.access_key_id = Setting(options, "s3.access-key-id", {"AWS_ACCESS_KEY_ID"});
  c.credentials.secret_access_key = Secret(Setting(options, "s3.secret-access-key", {"AWS_SECRET_ACCESS_KEY"}));
  // A token belongs to the keys it came with.
  bool own_keys = options.contains("s3.access-key-id");
  c.credentials.session_token = Secret(own_keys ? Setting(options, "s3.session-token", {})
                                                : Setting(options, "s3.session-token", {"AWS_SESSION_TOKEN"}));
  if (c.credentials.access_key_id.empty() || c.credentials.secret_access_key.empty())
    return std::unexpected(UserError("28000", "no credentials for {}", c.uri)
                               .WithHint("Set s3.access-key-id and s3.secret-access-key, or AWS_ACCESS_KEY_ID and "
                                         "AWS_SECRET_ACCESS_KEY."));
  if (auto region = Setting(options, "s3.region", {"AWS_REGION", "AWS_DEFAULT_REGION"}); !region.empty())
    c.region = region;
  if (auto it = options.find("s3.retry-ms"); it != options.end()) {
    auto& text = it->second;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), c.retry_ms);
    if (error != std::errc() || end != text.data() + text.size() || c.retry_ms < 0)
      return bad("s3.retry-ms must be a number, not \"" + text + "\"");
  }

  std::string endpoint = Setting(options, "s3.endpoint", {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"});
  std::string path_style = Setting(options, "s3.path-style-access", {});
  std::transform(path_style.begin(), path_style.end(), path_style.begin(),
                 [](unsigned char x) { return char(std::tolower(x)); });
  if (!path_style.empty() && path_style != "true" && path_style != "false")
    return bad("s3.path-style-access must be true or false, not \"" + path_style + "\"");
  // A server of one's own rarely has a name for each bucket; a certificate of AWS does not cover names with dots.
  bool path = path_style.empty() ? !endpoint.empty() || c.bucket.find('.') != c.bucket.npos : path_style == "true";
  if (endpoint.empty()) endpoint = "https://s3." + c.region + ".amazonaws.com";
  size_t scheme = endpoint.find("://");
  if (scheme == endpoint.npos)
    return bad("s3.endpoint must begin with http:// or https://, not be \"" + endpoint + "\"");
  c.scheme = endpoint.substr(0, scheme);
  c.host = endpoint.substr(scheme + 3);
  while (c.host.ends_with('/')) c.host.pop_back();
  if ((c.scheme != "http" && c.scheme != "https") || c.host.empty() || c.host.find_first_of("/?#@ \r\n") != c.host.npos)
    return bad("s3.endpoint must be http(s)://host[:port]");
  // What curl sends as Host is what must be signed.
  std::string standard = c.scheme == "http" ? ":80" : ":443";
  if (c.host.ends_with(standard)) c.host.resize(c.host.size() - standard.size());
  if (path) {
    c.path_prefix = "/" + c.bucket;
  } else {
    c.host = c.bucket + "." + c.host;
  }
  return c;
}
}  // namespace

Result<std::shared_ptr<ObjectStore>> OpenS3Store(const std::string& uri,
                                                 const std::map<std::string, std::string>& options) {
  TW_ASSIGN(Config config, MakeConfig(uri, options));
  auto store = std::make_shared<S3Store>(std::move(config));
  TW_TRY(store->Probe());
  return store;
}

}  // namespace tidewater::io
