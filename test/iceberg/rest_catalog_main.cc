// Serves an embedded catalog over HTTP for the PyIceberg tests.
//
//   rest_catalog_main WAREHOUSE_URI POINTERS_DIR [--option NAME=VALUE]... [--token TOKEN]
//
// Listens on 127.0.0.1, prints its port, ends when stdin does. Besides the protocol it answers, by way of our REST
// client against itself:
//   POST /test/plan    {"table": [ns, name]}: the files of the current snapshot with their deletes
//   POST /test/commit  {"table": …, "data": […], "position_deletes": […], "vectors": […], "remove": […], "summary":
//   {…}, "expire_keep": N}
#include <unistd.h>
#include <cstdio>
#include <map>
#include <thread>
#include <httplib.h>
#include <nlohmann/json.hpp>
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/embedded_catalog.h"
#include "tidewater/iceberg/puffin.h"
#include "tidewater/iceberg/rest_client.h"
#include "tidewater/iceberg/rest_server.h"
#include "tidewater/iceberg/scan.h"

namespace tidewater::iceberg {
namespace {

using Json = nlohmann::json;

template <class T>
T OrDie(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "{}\n", result.error().ToString());
    std::exit(1);
  }
  return *std::move(result);
}

TableIdent Ident(const Json& j) { return {{j["table"][0].get<std::string>()}, j["table"][1].get<std::string>()}; }

DataFile File(const Json& j, FileContent content) {
  DataFile f;
  f.content = content;
  f.path = j["path"];
  f.record_count = j["records"];
  f.file_size_bytes = j["size"];
  f.referenced_data_file = j.value("referenced", "");
  return f;
}

Result<Json> Plan(Catalog& catalog, const Json& request) {
  TW_ASSIGN(Table table, catalog.LoadTable(Ident(request)));
  const Snapshot* snapshot = table.metadata->CurrentSnapshot();
  Json out = {{"format_version", table.metadata->format_version}, {"files", Json::array()}, {"schema", Json::array()}};
  for (const Field& f : table.metadata->CurrentSchema().fields)
    out["schema"].push_back({f.id, f.name, f.type.ToString()});
  if (!snapshot) return out;
  TW_ASSIGN(auto tasks, PlanScan(*table.files, *table.metadata, *snapshot));
  for (const FileScanTask& t : tasks) {
    Json file = {{"path", t.file->path},
                 {"records", t.file->record_count},
                 {"size", t.file->file_size_bytes},
                 {"sequence", t.sequence_number},
                 {"bounds", t.file->lower_bounds.size()},
                 {"partition", t.file->partition.size()},
                 {"deletes", Json::array()}};
    for (const DeleteFile& d : t.deletes) {
      Json one = {{"path", d.file->path}, {"records", d.file->record_count}};
      if (d.file->IsDeletionVector()) {
        TW_ASSIGN(PositionSet positions, ReadDeletionVector(*table.files, *d.file));
        one["positions"] = positions.ToVector();
      }
      file["deletes"].push_back(std::move(one));
    }
    out["files"].push_back(std::move(file));
  }
  return out;
}

Result<Json> Commit(Catalog& catalog, const Json& request) {
  TW_ASSIGN(Table table, catalog.LoadTable(Ident(request)));
  TableChange change;
  for (const Json& f : request.value("data", Json::array())) change.added_data.push_back(File(f, FileContent::kData));
  for (const Json& f : request.value("position_deletes", Json::array()))
    change.added_deletes.push_back(File(f, FileContent::kPositionDeletes));
  for (const Json& f : request.value("remove", Json::array()))
    change.removed_data.push_back({f.get<std::string>(), ""});
  change.summary = request.value("summary", Properties());
  if (request.contains("vectors")) {
    PuffinWriter writer;
    std::vector<std::pair<std::string, PuffinBlob>> blobs;
    for (const Json& v : request["vectors"]) {
      PositionSet set;
      for (const Json& p : v["positions"]) set.Add(p.get<uint64_t>());
      std::string data_file = v["data_file"];
      blobs.emplace_back(data_file, writer.AddDeletionVector(set, data_file));
    }
    std::string bytes = writer.Finish();
    std::string path = table.metadata->location + "/data/" + NewUuid() + "-deletes.puffin";
    TW_TRY(table.files->Put(path, bytes));
    for (const auto& [data_file, blob] : blobs) {
      DataFile f;
      f.content = FileContent::kPositionDeletes;
      f.format = "puffin";
      f.path = path;
      f.file_size_bytes = int64_t(bytes.size());
      f.record_count = std::stoll(blob.properties.at("cardinality"));
      f.referenced_data_file = data_file;
      f.content_offset = int64_t(blob.offset);
      f.content_size_bytes = int64_t(blob.length);
      change.added_deletes.push_back(std::move(f));
    }
  }
  if (request.contains("expire_keep")) change.expire = ExpirePolicy{request["expire_keep"].get<int>(), -1, {}, 1};
  TW_ASSIGN(CommitResult result, CommitChange(catalog, table, change));
  return Json{
      {"snapshot", result.snapshot_id}, {"first_row_ids", result.first_row_ids}, {"garbage", result.garbage.size()}};
}

}  // namespace
}  // namespace tidewater::iceberg

int main(int argc, char** argv) {
  using namespace tidewater;
  using namespace tidewater::iceberg;
  if (argc < 3) return 2;
  std::map<std::string, std::string> options;
  std::string token;
  for (int i = 3; i + 1 < argc; i += 2) {
    std::string value = argv[i + 1];
    if (std::string(argv[i]) == "--token")
      token = value;
    else
      options[value.substr(0, value.find('='))] = value.substr(value.find('=') + 1);
  }
  EmbeddedCatalogOptions catalog_options;
  catalog_options.warehouse = OrDie(io::OpenStore(argv[1], options));
  catalog_options.pointers = OrDie(io::OpenStore(argv[2], options));
  catalog_options.client_config = options;
  auto catalog = OrDie(OpenEmbeddedCatalog(std::move(catalog_options)));
  RestCatalogServer rest(catalog, Secret(token));

  httplib::Server server;
  auto handle = [&](const httplib::Request& request, httplib::Response& response) {
    RestResponse r =
        rest.Handle({request.method, request.target, request.body,
                     request.has_header("Authorization") ? request.get_header_value("Authorization") : ""});
    response.status = r.status;
    if (!r.body.empty()) response.set_content(r.body, "application/json");
  };
  server.Get("/v1/.*", handle);
  server.Post("/v1/.*", handle);
  server.Delete("/v1/.*", handle);

  server.set_tcp_nodelay(true);
  server.set_keep_alive_timeout(1);
  int port = server.bind_to_any_port("127.0.0.1");
  std::shared_ptr<Catalog> client;
  auto run = [&](Result<Json> (*action)(Catalog&, const Json&)) {
    return [&client, action](const httplib::Request& request, httplib::Response& response) {
      auto result = action(*client, Json::parse(request.body));
      response.status = result ? 200 : 500;
      response.set_content(
          result ? result->dump() : fmt::format("{}: {}", int(result.error().kind), result.error().ToString()),
          "application/json");
    };
  };
  server.Post("/test/plan", run(Plan));
  server.Post("/test/commit", run(Commit));
  std::thread listener([&] { server.listen_after_bind(); });
  RestClientOptions client_options;
  client_options.uri = fmt::format("http://127.0.0.1:{}", port);
  if (!token.empty()) client_options.credential = Secret("tests:" + token);
  client = OrDie(OpenRestCatalog(client_options));
  fmt::print("{}\n", port);
  std::fflush(stdout);
  char c;
  while (read(0, &c, 1) > 0) {
  }
  server.stop();
  listener.join();
  client.reset();
  return 0;
}
