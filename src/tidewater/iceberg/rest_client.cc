#include "tidewater/iceberg/rest_client.h"
#include <curl/curl.h>
#include <vector>
#include "tidewater/base/clock.h"
#include "tidewater/base/mutex.h"
#include "tidewater/iceberg/json_codec.h"
#include "tidewater/iceberg/url.h"

namespace tidewater::iceberg {
namespace {

constexpr size_t kResponseMax = 512 << 20;

struct Response {
  long status = 0;
  std::string body;
};

size_t Receive(char* data, size_t size, size_t count, void* out) {
  auto& body = *static_cast<std::string*>(out);
  if (body.size() + size * count > kResponseMax) return 0;
  body.append(data, size * count);
  return size * count;
}

struct FreeCurl {
  void operator()(CURL* c) const { curl_easy_cleanup(c); }
};
struct FreeList {
  void operator()(curl_slist* l) const { curl_slist_free_all(l); }
};
using Handle = std::unique_ptr<CURL, FreeCurl>;

void Append(std::unique_ptr<curl_slist, FreeList>& list, const std::string& line) {
  curl_slist* longer = curl_slist_append(list.get(), line.c_str());
  if (longer && !list) list.reset(longer);
}

enum class About { kNamespace, kTable, kDropNamespace, kCommit };

class RestCatalog final : public Catalog {
 public:
  explicit RestCatalog(RestClientOptions options) : options_(std::move(options)), token_(options_.token) {
    while (options_.uri.ends_with('/')) options_.uri.pop_back();
    if (options_.uri.ends_with("/v1")) options_.uri.resize(options_.uri.size() - 3);
  }

  Status Connect() {
    if (options_.token.empty() && !options_.credential.empty()) TW_TRY(FetchToken());
    std::string url = options_.uri + "/v1/config";
    if (!options_.warehouse.empty()) url += "?warehouse=" + PercentEncode(options_.warehouse);
    TW_ASSIGN(Json j, Call("GET", url, "", About::kNamespace));
    Properties merged;
    for (const char* part : {"defaults", "overrides"}) {
      TW_ASSIGN(Properties p, GetProperties(j, part, "catalog config"));
      if (std::string_view(part) == "defaults") {
        merged = std::move(p);
        for (const auto& [k, v] : options_.store_options) merged[k] = v;
      } else {
        for (const auto& [k, v] : p) merged[k] = v;
      }
    }
    if (auto it = merged.find("uri"); it != merged.end() && !it->second.empty()) {
      options_.uri = it->second;
      while (options_.uri.ends_with('/')) options_.uri.pop_back();
    }
    base_ = options_.uri + "/v1";
    if (auto it = merged.find("prefix"); it != merged.end() && !it->second.empty())
      base_ += "/" + PercentEncode(it->second);
    if (auto it = merged.find("namespace-separator"); it != merged.end() && !it->second.empty())
      separator_ = it->second;
    if (auto it = merged.find("token"); it != merged.end()) SetToken(Secret(it->second));
    config_ = std::move(merged);
    return {};
  }

  Result<std::vector<Namespace>> ListNamespaces(const Namespace& parent) override {
    std::vector<Namespace> out;
    std::string page;
    do {
      std::string query = parent.empty() ? "" : "parent=" + Encode(parent);
      if (!page.empty()) query += (query.empty() ? "pageToken=" : "&pageToken=") + PercentEncode(page);
      TW_ASSIGN(Json j, Call("GET", base_ + "/namespaces" + (query.empty() ? "" : "?" + query), "", About::kNamespace));
      const Json* list = FindArray(j, "namespaces");
      for (const Json& ns : list ? *list : Json::array()) {
        TW_ASSIGN(Namespace levels, Levels(ns));
        out.push_back(std::move(levels));
      }
      page = FindString(j, "next-page-token").value_or("");
    } while (!page.empty());
    return out;
  }

  Status CreateNamespace(const Namespace& ns, const Properties& properties) override {
    TW_TRY(
        Call("POST", base_ + "/namespaces", Dump({{"namespace", ns}, {"properties", properties}}), About::kNamespace));
    return {};
  }

  Result<Properties> LoadNamespace(const Namespace& ns) override {
    TW_ASSIGN(Json j, Call("GET", Url(ns), "", About::kNamespace));
    return GetProperties(j, "properties", "namespace");
  }

  Status UpdateNamespace(const Namespace& ns, const Properties& set, const std::vector<std::string>& removed) override {
    TW_TRY(Call("POST", Url(ns) + "/properties", Dump({{"updates", set}, {"removals", removed}}), About::kNamespace));
    return {};
  }

  Status DropNamespace(const Namespace& ns) override {
    TW_TRY(Call("DELETE", Url(ns), "", About::kDropNamespace));
    return {};
  }

  Result<std::vector<TableIdent>> ListTables(const Namespace& ns) override {
    std::vector<TableIdent> out;
    std::string page;
    do {
      TW_ASSIGN(Json j, Call("GET", Url(ns) + "/tables" + (page.empty() ? "" : "?pageToken=" + PercentEncode(page)), "",
                             About::kNamespace));
      const Json* list = FindArray(j, "identifiers");
      for (const Json& t : list ? *list : Json::array()) {
        if (!t.is_object())
          return std::unexpected(EnvError(ErrorKind::kCorrupt, "the catalog listed something that is no table"));
        TableIdent ident;
        const Json* levels = FindArray(t, "namespace");
        TW_ASSIGN(ident.ns, Levels(levels ? *levels : Json::array()));
        TW_ASSIGN(ident.name, GetString(t, "name", "table identifier"));
        out.push_back(std::move(ident));
      }
      page = FindString(j, "next-page-token").value_or("");
    } while (!page.empty());
    return out;
  }

  Result<Table> CreateTable(const TableIdent& ident, const TableSpec& spec) override {
    Json body = {{"name", ident.name},
                 {"schema", ToJson(spec.schema)},
                 {"properties", spec.properties},
                 {"stage-create", false}};
    if (!spec.spec.fields.empty()) body["partition-spec"] = ToJson(spec.spec);
    if (!spec.sort_order.fields.empty()) body["write-order"] = ToJson(spec.sort_order);
    if (!spec.location.empty()) body["location"] = spec.location;
    TW_ASSIGN(Json j, Call("POST", Url(ident.ns) + "/tables", Dump(body), About::kTable));
    return TableFrom(ident, std::move(j), true);
  }

  Result<Table> LoadTable(const TableIdent& ident) override {
    TW_ASSIGN(Json j, Call("GET", Url(ident), "", About::kTable));
    return TableFrom(ident, std::move(j), true);
  }

  Result<Table> Commit(const TableCommit& commit) override {
    std::string identifier = Dump({{"namespace", commit.ident.ns}, {"name", commit.ident.name}});
    TW_ASSIGN(Json j, Call("POST", Url(commit.ident),
                           CommitRequestToJson(commit.requirements, commit.updates, identifier), About::kCommit));
    auto table = TableFrom(commit.ident, std::move(j), false);
    // The catalog said yes; that its answer cannot be read does not undo it.
    if (!table)
      return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown,
                                      "the catalog's answer to a commit cannot be read: {}", table.error().message));
    return table;
  }

  Status DropTable(const TableIdent& ident, bool purge) override {
    TW_TRY(Call("DELETE", Url(ident) + (purge ? "?purgeRequested=true" : ""), "", About::kTable));
    return {};
  }

  Status RenameTable(const TableIdent& from, const TableIdent& to) override {
    Json body = {{"source", {{"namespace", from.ns}, {"name", from.name}}},
                 {"destination", {{"namespace", to.ns}, {"name", to.name}}}};
    TW_TRY(Call("POST", base_ + "/tables/rename", Dump(body), About::kTable));
    return {};
  }

  Result<Table> RegisterTable(const TableIdent& ident, const std::string& location) override {
    TW_ASSIGN(Json j, Call("POST", Url(ident.ns) + "/register",
                           Dump({{"name", ident.name}, {"metadata-location", location}}), About::kTable));
    return TableFrom(ident, std::move(j), true);
  }

 private:
  std::string Encode(const Namespace& ns) const {
    // The server's separator comes percent-encoded.
    std::string out;
    for (const std::string& level : ns) {
      if (!out.empty()) out += separator_;
      out += PercentEncode(level);
    }
    return out;
  }
  std::string Url(const Namespace& ns) const { return base_ + "/namespaces/" + Encode(ns); }
  std::string Url(const TableIdent& t) const { return Url(t.ns) + "/tables/" + PercentEncode(t.name); }

  static Result<Namespace> Levels(const Json& j) {
    Namespace ns;
    if (!j.is_array()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a namespace is no list"));
    for (const Json& level : j) {
      if (!level.is_string())
        return std::unexpected(EnvError(ErrorKind::kCorrupt, "a level of a namespace is no text"));
      ns.push_back(level.get<std::string>());
    }
    return ns;
  }

  Result<Table> TableFrom(const TableIdent& ident, Json j, bool with_config) {
    Table table;
    table.ident = ident;
    table.metadata_location = FindString(j, "metadata-location").value_or("");
    auto it = j.find("metadata");
    if (it == j.end()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "the catalog's answer has no metadata"));
    TW_ASSIGN(TableMetadata metadata, MetadataFromJson(std::move(*it)));
    table.metadata = std::make_shared<const TableMetadata>(std::move(metadata));
    MutexLock lock(mutex_);
    auto& files = files_[ident];
    if (with_config || !files) {
      Properties config = config_;
      TW_ASSIGN(Properties own, GetProperties(j, "config", "table config"));
      for (auto& [k, v] : own) config[k] = std::move(v);
      const Json* credentials = FindArray(j, "storage-credentials");
      for (const Json& c : credentials ? *credentials : Json::array()) {
        if (!c.is_object() ||
            !table.metadata->location.starts_with(FileAccess::Normalize(FindString(c, "prefix").value_or(""))))
          continue;
        TW_ASSIGN(Properties p, GetProperties(c, "config", "storage credentials"));
        for (auto& [k, v] : p) config[k] = std::move(v);
      }
      // The same credentials keep what was opened and decoded with them.
      if (!files || files->first != config) files = {config, std::make_shared<FileAccess>(config)};
    }
    table.files = files->second;
    return table;
  }

  Secret Token() {
    MutexLock lock(mutex_);
    return token_;
  }
  void SetToken(Secret token) {
    MutexLock lock(mutex_);
    token_ = std::move(token);
  }

  Status FetchToken() {
    const std::string& credential = options_.credential.Reveal();
    size_t colon = credential.find(':');
    std::string form = "grant_type=client_credentials&scope=" + PercentEncode(options_.scope);
    if (colon != credential.npos) form += "&client_id=" + PercentEncode(credential.substr(0, colon));
    form += "&client_secret=" + PercentEncode(colon == credential.npos ? credential : credential.substr(colon + 1));
    std::string url =
        options_.oauth2_server_uri.empty() ? options_.uri + "/v1/oauth/tokens" : options_.oauth2_server_uri;
    TW_ASSIGN(Response response,
              Send("POST", url, form, "application/x-www-form-urlencoded", Secret(), About::kNamespace));
    if (response.status == 400 || response.status == 401 || response.status == 403)
      return std::unexpected(
          EnvError(ErrorKind::kAuthentication, "the catalog at {} refused the credentials", options_.uri));
    if (response.status != 200)
      return std::unexpected(EnvError(ErrorKind::kUnavailable, "the catalog at {} gave no token: status {}",
                                      options_.uri, response.status));
    TW_ASSIGN(Json j, ParseJson(response.body, "the answer of the token endpoint"));
    auto token = j.is_object() ? FindString(j, "access_token") : std::nullopt;
    if (!token)
      return std::unexpected(EnvError(ErrorKind::kAuthentication, "the catalog at {} gave no token", options_.uri));
    SetToken(Secret(*token));
    return {};
  }

  Result<Json> Call(const char* method, const std::string& url, const std::string& body, About about) {
    for (bool renewed = false;; renewed = true) {
      TW_ASSIGN(Response response, Send(method, url, body, "application/json", Token(), about));
      if ((response.status == 401 || response.status == 419) && !renewed && !options_.credential.empty()) {
        TW_TRY(FetchToken());
        continue;
      }
      if (response.status >= 200 && response.status < 300) {
        if (response.body.empty()) return Json::object();
        auto j = ParseJson(response.body, "the catalog's answer");
        if (j && !j->is_object())
          j = std::unexpected(EnvError(ErrorKind::kCorrupt, "the catalog's answer is no object"));
        if (!j && about == About::kCommit) j.error().kind = ErrorKind::kCommitStateUnknown;
        return j;
      }
      return std::unexpected(ToError(response, about));
    }
  }

  Error ToError(const Response& response, About about) {
    std::string message = fmt::format("status {}", response.status);
    if (auto j = ParseJson(response.body, "error"); j && j->is_object()) {
      if (const Json* e = FindObject(*j, "error")) message = FindString(*e, "message").value_or(message);
    }
    ErrorKind kind = ErrorKind::kIo;
    switch (response.status) {
      case 400:
        kind = ErrorKind::kUser;
        break;
      case 401:
      case 403:
      case 419:
        kind = ErrorKind::kAuthentication;
        break;
      case 404:
        kind = ErrorKind::kNotFound;
        break;
      case 406:
        kind = ErrorKind::kUnsupported;
        break;
      case 409:
        kind = about == About::kCommit          ? ErrorKind::kCommitFailed
               : about == About::kDropNamespace ? ErrorKind::kConflict
                                                : ErrorKind::kAlreadyExists;
        break;
      case 429:
        kind = ErrorKind::kUnavailable;
        break;
      default:
        if (response.status >= 500)
          kind = about == About::kCommit ? ErrorKind::kCommitStateUnknown : ErrorKind::kUnavailable;
    }
    Error e = EnvError(kind, "Iceberg catalog: {}", message);
    if (kind == ErrorKind::kUser) e.sqlstate = "22023";
    return e;
  }

  Result<Response> Send(const char* method, const std::string& url, const std::string& body, const char* content_type,
                        const Secret& token, About about) {
    Handle handle = TakeHandle();
    CURL* c = handle.get();
    if (!c) return std::unexpected(EnvError(ErrorKind::kInternal, "libcurl does not start"));
    curl_easy_reset(c);
    Response response;
    std::unique_ptr<curl_slist, FreeList> headers;
    Append(headers, std::string("Content-Type: ") + content_type);
    Append(headers, "Accept: application/json");
    Append(headers, "X-Iceberg-Access-Delegation: vended-credentials");
    Append(headers, "Expect:");
    if (!token.empty()) Append(headers, "Authorization: Bearer " + token.Reveal());
    curl_easy_setopt(c, CURLOPT_URL, url.c_str());
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, long(options_.timeout_ms));
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, long(std::min<int64_t>(options_.timeout_ms, 10000)));
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "tidewater");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, Receive);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &response.body);
    if (std::string_view(method) != "GET") curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    if (std::string_view(method) == "POST") {
      curl_easy_setopt(c, CURLOPT_POSTFIELDS, body.data());
      curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.size()));
    }
    CURLcode rc = curl_easy_perform(c);
    if (rc != CURLE_OK) {
      bool never_sent = rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
                        rc == CURLE_COULDNT_RESOLVE_PROXY || rc == CURLE_URL_MALFORMAT ||
                        rc == CURLE_UNSUPPORTED_PROTOCOL;
      ErrorKind kind =
          about == About::kCommit && !never_sent ? ErrorKind::kCommitStateUnknown : ErrorKind::kUnavailable;
      return std::unexpected(EnvError(kind, "Iceberg catalog at {}: {}", options_.uri, curl_easy_strerror(rc)));
    }
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &response.status);
    MutexLock lock(mutex_);
    handles_.push_back(std::move(handle));
    return response;
  }

  /// Handles keep their connections open between calls.
  Handle TakeHandle() {
    MutexLock lock(mutex_);
    if (handles_.empty()) return Handle(curl_easy_init());
    Handle handle = std::move(handles_.back());
    handles_.pop_back();
    return handle;
  }

  // Constant after Connect.
  RestClientOptions options_;
  std::string base_;
  std::string separator_ = "%1F";
  Properties config_;

  Mutex mutex_;
  Secret token_ GUARDED_BY(mutex_);
  std::vector<Handle> handles_ GUARDED_BY(mutex_);
  std::map<TableIdent, std::optional<std::pair<Properties, std::shared_ptr<FileAccess>>>> files_ GUARDED_BY(mutex_);
};

}  // namespace

Result<std::shared_ptr<Catalog>> OpenRestCatalog(RestClientOptions options) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) return std::unexpected(EnvError(ErrorKind::kInternal, "libcurl does not start"));
  auto catalog = std::make_shared<RestCatalog>(std::move(options));
  TW_TRY(catalog->Connect());
  return catalog;
}

}  // namespace tidewater::iceberg
