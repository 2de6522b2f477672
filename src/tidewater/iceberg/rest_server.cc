#include "tidewater/iceberg/rest_server.h"
#include <openssl/crypto.h>
#include <vector>
#include "tidewater/iceberg/json_codec.h"
#include "tidewater/iceberg/url.h"

namespace tidewater::iceberg {
namespace {

struct Request {
  std::string_view method;
  std::vector<std::string> path;  ///< decoded segments behind /v1
  std::map<std::string, std::string> query;
  std::string_view body;
};

RestResponse ErrorResponse(int status, const std::string& type, const std::string& message) {
  return {status, Dump({{"error", {{"message", message}, {"type", type}, {"code", status}}}})};
}

/// What a missing or existing thing is called depends on the request.
enum class About { kNamespace, kTable };

RestResponse ErrorResponse(const Error& e, About about, bool is_commit = false) {
  std::string text = e.ToString();
  switch (e.kind) {
    case ErrorKind::kUser:
    case ErrorKind::kCorrupt:
      return ErrorResponse(400, "BadRequestException", text);
    case ErrorKind::kNotFound:
      return ErrorResponse(404,
                           e.message.starts_with("namespace") || about == About::kNamespace ? "NoSuchNamespaceException"
                                                                                            : "NoSuchTableException",
                           text);
    case ErrorKind::kAlreadyExists:
      return ErrorResponse(409, "AlreadyExistsException", text);
    case ErrorKind::kConflict:
      return ErrorResponse(409, about == About::kNamespace ? "NamespaceNotEmptyException" : "CommitFailedException",
                           text);
    case ErrorKind::kCommitFailed:
      return ErrorResponse(409, "CommitFailedException", text);
    case ErrorKind::kCommitStateUnknown:
      return ErrorResponse(500, "CommitStateUnknownException", text);
    case ErrorKind::kUnsupported:
      return ErrorResponse(is_commit ? 400 : 406, is_commit ? "BadRequestException" : "UnsupportedOperationException",
                           text);
    case ErrorKind::kAuthentication:
      return ErrorResponse(403, "ForbiddenException", text);
    case ErrorKind::kUnavailable:
      return ErrorResponse(503, "ServiceUnavailableException", text);
    default:
      return ErrorResponse(500, "InternalServerError", text);
  }
}

RestResponse Ok(const Json& j) { return {200, Dump(j)}; }
RestResponse NoContent() { return {204, {}}; }
RestResponse NotThere() { return ErrorResponse(404, "NoSuchEndpointException", "this endpoint is not served"); }

Result<TableIdent> IdentFromJson(const Json* j) {
  if (!j) return std::unexpected(UserError("22023", "a table identifier is missing"));
  TableIdent ident;
  const Json* ns = FindArray(*j, "namespace");
  for (const Json& level : ns ? *ns : Json::array()) {
    if (!level.is_string()) return std::unexpected(UserError("22023", "a level of a namespace is no text"));
    ident.ns.push_back(level.get<std::string>());
  }
  TW_ASSIGN(ident.name, GetString(*j, "name", "table identifier"));
  return ident;
}

Json IdentToJson(const TableIdent& ident) { return {{"namespace", ident.ns}, {"name", ident.name}}; }

const char* const kEndpoints[] = {
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
};

class Handler {
 public:
  Handler(EmbeddedCatalog& catalog, const Request& request) : catalog_(catalog), r_(request) {}

  RestResponse Run() {
    const auto& p = r_.path;
    if (p.empty()) return NotThere();
    if (p[0] == "config" && p.size() == 1 && r_.method == "GET") {
      Json endpoints = Json::array();
      for (const char* e : kEndpoints) endpoints.push_back(e);
      return Ok({{"defaults", Json::object()}, {"overrides", Json::object()}, {"endpoints", std::move(endpoints)}});
    }
    if (p[0] == "tables" && p.size() == 2 && p[1] == "rename" && r_.method == "POST") return Rename();
    if (p[0] == "transactions" && p.size() == 2 && p[1] == "commit" && r_.method == "POST") return Transaction();
    if (p[0] != "namespaces") return NotThere();
    if (p.size() == 1)
      return r_.method == "GET" ? ListNamespaces() : r_.method == "POST" ? CreateNamespace() : NotThere();
    ns_ = SplitNamespace(p[1]);
    if (p.size() == 2) return OneNamespace();
    if (p[2] == "properties" && p.size() == 3 && r_.method == "POST") return UpdateNamespace();
    if (p[2] == "register" && p.size() == 3 && r_.method == "POST") return Register();
    if (p[2] == "views" && p.size() == 3 && r_.method == "GET") return Ok({{"identifiers", Json::array()}});
    if (p[2] == "views" && p.size() == 4)
      return ErrorResponse(404, "NoSuchViewException", "there are no views in this catalog");
    if (p[2] != "tables") return NotThere();
    if (p.size() == 3) return r_.method == "GET" ? ListTables() : r_.method == "POST" ? CreateTable() : NotThere();
    ident_ = {ns_, p[3]};
    if (p.size() == 4) return OneTable();
    if (p.size() == 5 && p[4] == "metrics" && r_.method == "POST") return NoContent();
    if (p.size() == 5 && p[4] == "credentials" && r_.method == "GET")
      return Ok({{"storage-credentials", Json::array()}});
    return NotThere();
  }

 private:
  Result<Json> Body() {
    TW_ASSIGN(Json j, ParseJson(r_.body, "the request"));
    if (!j.is_object()) return std::unexpected(UserError("22023", "the request is no JSON object"));
    return j;
  }

  RestResponse ListNamespaces() {
    Namespace parent;
    if (auto it = r_.query.find("parent"); it != r_.query.end() && !it->second.empty())
      parent = SplitNamespace(it->second);
    auto list = catalog_.ListNamespaces(parent);
    if (!list) return ErrorResponse(list.error(), About::kNamespace);
    return Ok({{"namespaces", *list}});
  }

  RestResponse CreateNamespace() {
    auto run = [&]() -> Result<Json> {
      TW_ASSIGN(Json body, Body());
      Namespace ns;
      const Json* levels = FindArray(body, "namespace");
      for (const Json& level : levels ? *levels : Json::array()) {
        if (!level.is_string()) return std::unexpected(UserError("22023", "a level of a namespace is no text"));
        ns.push_back(level.get<std::string>());
      }
      TW_ASSIGN(Properties properties, GetProperties(body, "properties", "the request"));
      TW_TRY(catalog_.CreateNamespace(ns, properties));
      return Json{{"namespace", ns}, {"properties", properties}};
    };
    auto result = run();
    return result ? Ok(*result) : ErrorResponse(result.error(), About::kNamespace);
  }

  RestResponse OneNamespace() {
    if (r_.method == "DELETE") {
      Status s = catalog_.DropNamespace(ns_);
      return s ? NoContent() : ErrorResponse(s.error(), About::kNamespace);
    }
    if (r_.method != "GET" && r_.method != "HEAD") return NotThere();
    auto properties = catalog_.LoadNamespace(ns_);
    if (!properties) return ErrorResponse(properties.error(), About::kNamespace);
    if (r_.method == "HEAD") return NoContent();
    return Ok({{"namespace", ns_}, {"properties", *properties}});
  }

  RestResponse UpdateNamespace() {
    auto run = [&]() -> Result<Json> {
      TW_ASSIGN(Json body, Body());
      TW_ASSIGN(Properties set, GetProperties(body, "updates", "the request"));
      TW_ASSIGN(Properties before, catalog_.LoadNamespace(ns_));
      std::vector<std::string> removals, removed, missing, updated;
      const Json* list = FindArray(body, "removals");
      for (const Json& key : list ? *list : Json::array()) {
        if (!key.is_string()) return std::unexpected(UserError("22023", "the name of a property is no text"));
        removals.push_back(key.get<std::string>());
        if (set.contains(removals.back())) {
          return std::unexpected(UserError("22023", "property \"{}\" is both set and removed", removals.back()));
        }
        (before.contains(removals.back()) ? removed : missing).push_back(removals.back());
      }
      for (const auto& [k, v] : set) updated.push_back(k);
      TW_TRY(catalog_.UpdateNamespace(ns_, set, removals));
      return Json{{"updated", updated}, {"removed", removed}, {"missing", missing}};
    };
    auto result = run();
    return result ? Ok(*result) : ErrorResponse(result.error(), About::kNamespace);
  }

  RestResponse ListTables() {
    auto list = catalog_.ListTables(ns_);
    if (!list) return ErrorResponse(list.error(), About::kNamespace);
    Json identifiers = Json::array();
    for (const TableIdent& t : *list) identifiers.push_back(IdentToJson(t));
    return Ok({{"identifiers", std::move(identifiers)}});
  }

  RestResponse TableResponse(const Table& table, bool with_config) {
    std::string body = "{";
    if (!table.metadata_location.empty()) body += "\"metadata-location\":" + Dump(table.metadata_location) + ",";
    // The metadata is there as text: it is not parsed and written again for each reader.
    body += "\"metadata\":";
    body += table.metadata_location.empty() ? MetadataToJson(*table.metadata) : *catalog_.MetadataJson(table);
    if (with_config) body += ",\"config\":" + Dump(catalog_.client_config());
    body += "}";
    return {200, std::move(body)};
  }

  RestResponse CreateTable() {
    bool staged = false;
    auto run = [&]() -> Result<Table> {
      TW_ASSIGN(Json body, Body());
      TableSpec spec;
      TW_ASSIGN(std::string name, GetString(body, "name", "the request"));
      const Json* schema = FindObject(body, "schema");
      if (!schema) return std::unexpected(UserError("22023", "a table needs a schema"));
      TW_ASSIGN(spec.schema, SchemaFromJson(*schema));
      if (const Json* partition = FindObject(body, "partition-spec")) {
        TW_ASSIGN(spec.spec, PartitionSpecFromJson(*partition));
      }
      if (const Json* order = FindObject(body, "write-order")) {
        TW_ASSIGN(spec.sort_order, SortOrderFromJson(*order));
      }
      spec.location = FindString(body, "location").value_or("");
      TW_ASSIGN(spec.properties, GetProperties(body, "properties", "the request"));
      staged = FindBool(body, "stage-create", false);
      TableIdent ident{ns_, std::move(name)};
      return staged ? catalog_.StageTable(ident, spec) : catalog_.CreateTable(ident, spec);
    };
    auto table = run();
    return table ? TableResponse(*table, true) : ErrorResponse(table.error(), About::kNamespace);
  }

  RestResponse OneTable() {
    if (r_.method == "DELETE") {
      auto purge = r_.query.find("purgeRequested");
      Status s =
          catalog_.DropTable(ident_, purge != r_.query.end() && (purge->second == "true" || purge->second == "True"));
      return s ? NoContent() : ErrorResponse(s.error(), About::kTable);
    }
    if (r_.method == "GET" || r_.method == "HEAD") {
      auto table = catalog_.LoadTable(ident_);
      if (!table) return ErrorResponse(table.error(), About::kTable);
      return r_.method == "HEAD" ? NoContent() : TableResponse(*table, true);
    }
    if (r_.method != "POST") return NotThere();
    auto run = [&]() -> Result<Table> {
      TW_ASSIGN(CommitRequest request, ParseCommitRequest(r_.body));
      return catalog_.Commit({ident_, std::move(request.requirements), std::move(request.updates)});
    };
    auto table = run();
    return table ? TableResponse(*table, false) : ErrorResponse(table.error(), About::kTable, true);
  }

  RestResponse Register() {
    auto run = [&]() -> Result<Table> {
      TW_ASSIGN(Json body, Body());
      TW_ASSIGN(std::string name, GetString(body, "name", "the request"));
      TW_ASSIGN(std::string location, GetString(body, "metadata-location", "the request"));
      return catalog_.RegisterTable({ns_, std::move(name)}, location);
    };
    auto table = run();
    return table ? TableResponse(*table, true) : ErrorResponse(table.error(), About::kTable);
  }

  RestResponse Rename() {
    auto run = [&]() -> Status {
      TW_ASSIGN(Json body, Body());
      TW_ASSIGN(TableIdent from, IdentFromJson(FindObject(body, "source")));
      TW_ASSIGN(TableIdent to, IdentFromJson(FindObject(body, "destination")));
      return catalog_.RenameTable(from, to);
    };
    Status s = run();
    return s ? NoContent() : ErrorResponse(s.error(), About::kTable);
  }

  RestResponse Transaction() {
    auto run = [&]() -> Status {
      TW_ASSIGN(Json body, Body());
      std::vector<TableCommit> commits;
      const Json* changes = FindArray(body, "table-changes");
      for (const Json& change : changes ? *changes : Json::array()) {
        if (!change.is_object()) return std::unexpected(UserError("22023", "a table change is no object"));
        TW_ASSIGN(TableIdent ident, IdentFromJson(FindObject(change, "identifier")));
        TW_ASSIGN(CommitRequest request, ParseCommitRequest(Dump(change)));
        commits.push_back({std::move(ident), std::move(request.requirements), std::move(request.updates)});
      }
      return catalog_.CommitTransaction(commits);
    };
    Status s = run();
    return s ? NoContent() : ErrorResponse(s.error(), About::kTable, true);
  }

  EmbeddedCatalog& catalog_;
  const Request& r_;
  Namespace ns_;
  TableIdent ident_;
};

bool SameSecret(std::string_view a, const std::string& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), b.size()) == 0;
}

}  // namespace

RestCatalogServer::RestCatalogServer(std::shared_ptr<EmbeddedCatalog> catalog, Secret token)
    : catalog_(std::move(catalog)), token_(std::move(token)) {}

RestResponse RestCatalogServer::Handle(const RestRequest& request) {
  Request r;
  r.method = request.method;
  r.body = request.body;
  std::string_view target = request.target;
  size_t question = target.find('?');
  if (question != target.npos) {
    auto query = ParseQuery(target.substr(question + 1));
    if (!query) return ErrorResponse(400, "BadRequestException", "the query is not percent-encoded");
    r.query = std::move(*query);
    target = target.substr(0, question);
  }
  if (!target.starts_with("/v1/")) return NotThere();
  target.remove_prefix(4);
  while (!target.empty()) {
    size_t slash = std::min(target.find('/'), target.size());
    auto segment = PercentDecode(target.substr(0, slash));
    if (!segment) return ErrorResponse(400, "BadRequestException", "the path is not percent-encoded");
    r.path.push_back(std::move(*segment));
    target.remove_prefix(std::min(slash + 1, target.size()));
  }
  if (r.path.size() == 2 && r.path[0] == "oauth" && r.path[1] == "tokens" && r.method == "POST") {
    auto form = ParseQuery(r.body);
    std::string given = form && form->contains("client_secret") ? form->at("client_secret") : std::string();
    if (!token_.empty() && !SameSecret(given, token_.Reveal()))
      return {401, Dump({{"error", "invalid_client"}, {"error_description", "the client secret is wrong"}})};
    return Ok({{"access_token", token_.empty() ? "none" : token_.Reveal()},
               {"token_type", "bearer"},
               {"issued_token_type", "urn:ietf:params:oauth:token-type:access_token"},
               {"expires_in", 3600}});
  }
  if (!token_.empty()) {
    constexpr std::string_view kBearer = "Bearer ";
    if (!request.authorization.starts_with(kBearer) ||
        !SameSecret(request.authorization.substr(kBearer.size()), token_.Reveal()))
      return ErrorResponse(401, "NotAuthorizedException", "a valid bearer token is needed");
  }
  RestResponse response = Handler(*catalog_, r).Run();
  if (request.method == "HEAD") response.body.clear();
  return response;
}

}  // namespace tidewater::iceberg
