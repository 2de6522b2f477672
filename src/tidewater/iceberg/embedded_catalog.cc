#include "tidewater/iceberg/embedded_catalog.h"
#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <set>
#include <unordered_set>
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/json_codec.h"
#include "tidewater/iceberg/url.h"

namespace tidewater::iceberg {
namespace {

constexpr int kAttempts = 10;
constexpr size_t kCachedTablesMax = 1000;

/// What a pointer object says.
struct Pointer {
  std::string location;  ///< of the metadata file; empty for a table that a pending transaction creates
  // A transaction over several tables that holds this one: decided by the object transactions/ID.json.
  std::string transaction;
  std::string transaction_location;
  // A rename under way.
  std::string moved_to;  ///< key of the other pointer
  std::string tag;       ///< for the conditional put

  std::string ToJson() const {
    Json j = Json::object();
    if (!location.empty()) j["metadata-location"] = location;
    if (!transaction.empty())
      j["pending"] = {{"transaction", transaction}, {"metadata-location", transaction_location}};
    if (!moved_to.empty()) j["moved-to"] = moved_to;
    return Dump(j);
  }

  static Result<Pointer> Parse(const std::string& text) {
    TW_ASSIGN(Json j, ParseJson(text, "table pointer"));
    if (!j.is_object()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a table pointer is no object"));
    Pointer p;
    p.location = FindString(j, "metadata-location").value_or("");
    p.moved_to = FindString(j, "moved-to").value_or("");
    if (const Json* pending = FindObject(j, "pending")) {
      TW_ASSIGN(p.transaction, GetString(*pending, "transaction", "table pointer"));
      TW_ASSIGN(p.transaction_location, GetString(*pending, "metadata-location", "table pointer"));
    }
    if (p.location.empty() && p.transaction.empty())
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "a table pointer without location"));
    return p;
  }
};

std::string NamespaceFolder(const Namespace& ns) { return "namespaces/" + EncodeNamespace(ns); }
std::string NamespaceKey(const Namespace& ns) { return NamespaceFolder(ns) + "/namespace.json"; }
std::string PointerKey(const TableIdent& t) {
  return NamespaceFolder(t.ns) + "/tables/" + PercentEncode(t.name) + ".json";
}
std::string TransactionKey(const std::string& id) { return "transactions/" + id + ".json"; }

std::string Join(const Namespace& ns, const char* separator) {
  std::string out;
  for (const std::string& level : ns) {
    if (!out.empty()) out += separator;
    out += level;
  }
  return out;
}

Error NoTable(const TableIdent& t) { return EnvError(ErrorKind::kNotFound, "table {} does not exist", t.ToString()); }
Error NoNamespace(const Namespace& ns) {
  return EnvError(ErrorKind::kNotFound, "namespace {} does not exist", Join(ns, "."));
}
Error TableExists(const TableIdent& t) {
  return EnvError(ErrorKind::kAlreadyExists, "table {} already exists", t.ToString());
}

Status CheckNames(const Namespace& ns) {
  if (ns.empty()) return std::unexpected(UserError("22023", "a namespace needs a name"));
  for (const std::string& level : ns) {
    if (level.empty() || level.find('\x1f') != level.npos || level.find('\0') != level.npos || level == "." ||
        level == ".." || level.size() > 200)
      return std::unexpected(UserError("22023", "\"{}\" is no valid name of a namespace", level));
  }
  return {};
}

Status CheckName(const TableIdent& t) {
  TW_TRY(CheckNames(t.ns));
  if (t.name.empty() || t.name.find('\0') != t.name.npos || t.name == "." || t.name == ".." || t.name.size() > 200)
    return std::unexpected(UserError("22023", "\"{}\" is no valid name of a table", t.name));
  return {};
}

/// The number in front of "00012-UUID.metadata.json", or in "v12.metadata.json"; -1 for other names.
int64_t MetadataVersion(const std::string& location) {
  size_t slash = location.rfind('/');
  const char* p = location.data() + (slash == location.npos ? 0 : slash + 1);
  if (*p == 'v') ++p;
  int64_t v = -1;
  std::from_chars(p, location.data() + location.size(), v);
  return v;
}

std::string NewMetadataLocation(const TableMetadata& m, int64_t version) {
  auto path = m.properties.find("write.metadata.path");
  std::string folder = path != m.properties.end() ? path->second : m.location + "/metadata";
  return fmt::format("{}/{:05}-{}.metadata.json", folder, version, NewUuid());
}

class Impl final : public EmbeddedCatalog {
 public:
  explicit Impl(EmbeddedCatalogOptions options)
      : pointers_(std::move(options.pointers)),
        warehouse_(std::move(options.warehouse)),
        client_config_(std::move(options.client_config)) {
    if (options.allow_foreign_locations)
      files_ = std::make_shared<FileAccess>(options.store_options, warehouse_);
    else
      files_ = std::make_shared<FileAccess>(warehouse_);
  }

  /// Completes what a crash left behind.
  Status Recover() {
    TW_ASSIGN(auto transactions, pointers_->List("transactions/"));
    for (const io::ObjectInfo& t : transactions) TW_TRY(FinishTransaction(t.key));
    return {};
  }

  Result<std::vector<Namespace>> ListNamespaces(const Namespace& parent) override {
    if (!parent.empty()) TW_TRY(RequireNamespace(parent));
    TW_ASSIGN(auto all, AllNamespaces());
    std::vector<Namespace> out;
    for (Namespace& ns : all) {
      if (ns.size() == parent.size() + 1 && std::equal(parent.begin(), parent.end(), ns.begin()))
        out.push_back(std::move(ns));
    }
    return out;
  }

  Status CreateNamespace(const Namespace& ns, const Properties& properties) override {
    TW_TRY(CheckNames(ns));
    Status s = pointers_->PutIfAbsent(NamespaceKey(ns), Dump({{"properties", properties}}));
    if (!s && s.error().kind == ErrorKind::kAlreadyExists)
      return std::unexpected(EnvError(ErrorKind::kAlreadyExists, "namespace {} already exists", Join(ns, ".")));
    return s;
  }

  Result<Properties> LoadNamespace(const Namespace& ns) override {
    TW_ASSIGN(auto found, ReadNamespace(ns));
    return std::move(found.first);
  }

  Status UpdateNamespace(const Namespace& ns, const Properties& set, const std::vector<std::string>& removed) override {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      TW_ASSIGN(auto found, ReadNamespace(ns));
      auto& [properties, tag] = found;
      for (const std::string& key : removed) properties.erase(key);
      for (const auto& [k, v] : set) properties[k] = v;
      auto put = pointers_->PutIfMatch(NamespaceKey(ns), Dump({{"properties", properties}}), tag);
      if (put) return {};
      if (put.error().kind != ErrorKind::kCommitFailed) return std::unexpected(std::move(put).error());
    }
    return std::unexpected(EnvError(ErrorKind::kCommitFailed, "namespace {} changes too often", Join(ns, ".")));
  }

  Status DropNamespace(const Namespace& ns) override {
    std::lock_guard lock(names_mutex_);
    TW_TRY(RequireNamespace(ns));
    TW_ASSIGN(auto tables, pointers_->List(NamespaceFolder(ns) + "/tables/"));
    bool children = false;
    TW_ASSIGN(auto all, AllNamespaces());
    for (const Namespace& n : all) children |= n.size() > ns.size() && std::equal(ns.begin(), ns.end(), n.begin());
    if (!tables.empty() || children)
      return std::unexpected(EnvError(ErrorKind::kConflict, "namespace {} is not empty", Join(ns, ".")));
    return pointers_->Delete(NamespaceKey(ns));
  }

  Result<std::vector<TableIdent>> ListTables(const Namespace& ns) override {
    TW_TRY(RequireNamespace(ns));
    std::string folder = NamespaceFolder(ns) + "/tables/";
    TW_ASSIGN(auto objects, pointers_->List(folder));
    std::vector<TableIdent> out;
    for (const io::ObjectInfo& o : objects) {
      std::string_view name = std::string_view(o.key).substr(folder.size());
      if (!name.ends_with(".json")) continue;
      if (auto decoded = PercentDecode(name.substr(0, name.size() - 5))) out.push_back({ns, *decoded});
    }
    return out;
  }

  Result<Table> StageTable(const TableIdent& ident, const TableSpec& spec) override {
    TW_TRY(CheckName(ident));
    TW_ASSIGN(auto ns, ReadNamespace(ident.ns));
    auto existing = ReadPointer(ident, Use::kRead);
    if (existing) return std::unexpected(TableExists(ident));
    if (existing.error().kind != ErrorKind::kNotFound) return std::unexpected(std::move(existing).error());
    TableSpec full = spec;
    if (full.location.empty()) {
      TW_ASSIGN(full.location, DefaultLocation(ident, ns.first));
    }
    TW_ASSIGN(TableMetadata metadata, NewTableMetadata(full));
    TW_TRY(files_->Resolve(metadata.location + "/metadata"));
    return Table{ident, "", std::make_shared<const TableMetadata>(std::move(metadata)), files_};
  }

  Result<Table> CreateTable(const TableIdent& ident, const TableSpec& spec) override {
    std::lock_guard lock(names_mutex_);
    TW_ASSIGN(Table table, StageTable(ident, spec));
    return Publish(std::move(table));
  }

  Result<Table> LoadTable(const TableIdent& ident) override {
    TW_ASSIGN(Pointer p, ReadPointer(ident, Use::kRead));
    auto table = LoadVersion(ident, p.location);
    // Between the two reads a commit may have replaced and removed the metadata file.
    for (int attempt = 0; !table && table.error().kind == ErrorKind::kNotFound && attempt < kAttempts; ++attempt) {
      std::string before = p.location;
      TW_ASSIGN(p, ReadPointer(ident, Use::kRead));
      if (p.location == before)
        return std::unexpected(
            EnvError(ErrorKind::kCorrupt, "the metadata file {} of table {} is gone", before, ident.ToString()));
      table = LoadVersion(ident, p.location);
    }
    return table;
  }

  Result<Table> Commit(const TableCommit& commit) override {
    std::lock_guard lock(MutexOf(commit.ident));
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      TW_ASSIGN(auto next, Prepare(commit));
      if (!next.changed) return std::move(next.table);
      if (next.is_new) return Publish(std::move(next.table));
      TW_ASSIGN(auto json, WriteMetadata(next.table));
      FaultPoint("catalog.before_swap");
      Pointer swapped;
      swapped.location = next.table.metadata_location;
      auto put = pointers_->PutIfMatch(PointerKey(commit.ident), swapped.ToJson(), next.tag);
      FaultPoint("catalog.after_swap");
      if (put) {
        Remember(next.table, std::move(json));
        // Readers of the previous version may still be at it; the ones that fell out are old.
        if (next.table.metadata->BoolProperty(kPropDeleteAfterCommit, false)) files_->DeleteAll(next.outdated);
        return std::move(next.table);
      }
      if (put.error().kind != ErrorKind::kCommitFailed)
        return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown, "the commit to {} may have happened: {}",
                                        commit.ident.ToString(), put.error().ToString()));
      (void)files_->Delete(next.table.metadata_location);
    }
    return std::unexpected(EnvError(ErrorKind::kCommitFailed, "table {} changes too often", commit.ident.ToString()));
  }

  Status CommitTransaction(const std::vector<TableCommit>& commits) override {
    if (commits.empty()) return {};
    if (commits.size() == 1) {
      TW_TRY(Commit(commits[0]));
      return {};
    }
    std::set<TableIdent> names;
    for (const TableCommit& c : commits) {
      if (!names.insert(c.ident).second)
        return std::unexpected(UserError("22023", "table {} appears twice in a transaction", c.ident.ToString()));
    }
    auto locks = LockAll(commits);
    std::vector<Next> prepared;
    for (const TableCommit& c : commits) {
      TW_ASSIGN(Next next, Prepare(c));
      if (next.changed) prepared.push_back(std::move(next));
    }
    std::string id = NewUuid();
    size_t held = 0;
    Status status;
    for (; held < prepared.size() && status; ++held) {
      auto written = WriteMetadata(prepared[held].table);
      status = written ? Hold(&prepared[held], id) : std::unexpected(std::move(written).error());
      if (!status) break;
    }
    FaultPoint("catalog.before_decision");
    if (status) {
      Json record = {{"pointers", Json::array()}, {"committed", true}};
      for (const Next& n : prepared) record["pointers"].push_back(PointerKey(n.table.ident));
      status = pointers_->PutIfAbsent(TransactionKey(id), Dump(record));
      if (!status && status.error().kind != ErrorKind::kAlreadyExists)
        return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown, "the transaction may have happened: {}",
                                        status.error().ToString()));
    }
    FaultPoint("catalog.after_decision");
    if (!status) {
      for (size_t i = 0; i < held; ++i) Release(prepared[i]);
      for (const Next& n : prepared) (void)files_->Delete(n.table.metadata_location);
      (void)pointers_->Delete(TransactionKey(id));
      if (status.error().kind == ErrorKind::kAlreadyExists)
        return std::unexpected(EnvError(ErrorKind::kCommitFailed, "the transaction was overtaken by another writer"));
      return status;
    }
    // Decided. What fails from here on is completed by whoever comes next.
    bool all = true;
    for (const Next& n : prepared) {
      Pointer p;
      p.location = n.table.metadata_location;
      all &= pointers_->PutIfMatch(PointerKey(n.table.ident), p.ToJson(), n.tag).has_value();
      Remember(n.table);
      if (n.table.metadata->BoolProperty(kPropDeleteAfterCommit, false)) files_->DeleteAll(n.outdated);
    }
    if (all) (void)pointers_->Delete(TransactionKey(id));
    return {};
  }

  Status DropTable(const TableIdent& ident, bool purge) override {
    std::lock_guard names(names_mutex_);
    std::lock_guard lock(MutexOf(ident));
    TW_ASSIGN(Pointer p, ReadPointer(ident, Use::kWrite));
    auto table = LoadVersion(ident, p.location);
    TW_TRY(pointers_->Delete(PointerKey(ident)));
    {
      std::lock_guard cache(cache_mutex_);
      cache_.erase(ident);
    }
    if (purge && table && table->metadata->BoolProperty("gc.enabled", true))
      Purge(*table);
    else if (purge && !table)
      log::warn("iceberg: files of the dropped table {} stay: {}", ident.ToString(), table.error().message);
    return {};
  }

  Status RenameTable(const TableIdent& from, const TableIdent& to) override {
    std::lock_guard names(names_mutex_);
    std::lock_guard lock(MutexOf(from));
    TW_TRY(CheckName(to));
    TW_TRY(RequireNamespace(to.ns));
    std::string key = PointerKey(from);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      TW_ASSIGN(Pointer p, ReadPointer(from, Use::kWrite));
      auto other = ReadPointer(to, Use::kRead);
      if (other) return std::unexpected(TableExists(to));
      if (other.error().kind != ErrorKind::kNotFound) return std::unexpected(std::move(other).error());
      // First the old name stops taking commits, then the new one appears, then the old one goes.
      Pointer moving;
      moving.location = p.location;
      moving.moved_to = PointerKey(to);
      auto put = pointers_->PutIfMatch(key, moving.ToJson(), p.tag);
      if (!put && put.error().kind == ErrorKind::kCommitFailed) continue;
      if (!put) return std::unexpected(std::move(put).error());
      FaultPoint("catalog.rename");
      moving.tag = *put;
      return FinishRename(key, moving);
    }
    return std::unexpected(EnvError(ErrorKind::kCommitFailed, "table {} changes too often", from.ToString()));
  }

  Result<Table> RegisterTable(const TableIdent& ident, const std::string& location) override {
    std::lock_guard lock(names_mutex_);
    TW_TRY(CheckName(ident));
    TW_TRY(RequireNamespace(ident.ns));
    TW_ASSIGN(std::string bytes, files_->Get(location));
    TW_ASSIGN(TableMetadata metadata, ParseMetadataFile(bytes));
    Table table{ident, location, std::make_shared<const TableMetadata>(std::move(metadata)), files_};
    TW_TRY(PutPointer(table));
    Remember(table);
    return table;
  }

  std::shared_ptr<const std::string> MetadataJson(const Table& table) override {
    {
      std::lock_guard lock(cache_mutex_);
      auto it = cache_.find(table.ident);
      if (it != cache_.end() && it->second.table.metadata_location == table.metadata_location && it->second.json)
        return it->second.json;
    }
    auto json = std::make_shared<const std::string>(MetadataToJson(*table.metadata));
    std::lock_guard lock(cache_mutex_);
    auto it = cache_.find(table.ident);
    if (it != cache_.end() && it->second.table.metadata_location == table.metadata_location) it->second.json = json;
    return json;
  }

  const Properties& client_config() const override { return client_config_; }
  std::string warehouse_uri() const override { return warehouse_->Uri(); }

 private:
  /// A commit made ready: the table as it would be.
  struct Next {
    Table table;
    std::string tag;  ///< of the pointer it is based on
    std::string base_location;
    bool is_new = false;
    bool changed = true;
    std::vector<std::string> outdated;
  };

  struct Cached {
    Table table;
    std::shared_ptr<const std::string> json;
  };

  std::mutex& MutexOf(const TableIdent& ident) {
    return table_mutexes_[std::hash<std::string>()(PointerKey(ident)) % table_mutexes_.size()];
  }

  /// In the order of the mutexes, each once.
  std::vector<std::unique_lock<std::mutex>> LockAll(const std::vector<TableCommit>& commits) {
    std::set<std::mutex*> mutexes;
    for (const TableCommit& c : commits) mutexes.insert(&MutexOf(c.ident));
    std::vector<std::unique_lock<std::mutex>> locks;
    for (std::mutex* m : mutexes) locks.emplace_back(*m);
    return locks;
  }

  Result<std::pair<Properties, std::string>> ReadNamespace(const Namespace& ns) {
    TW_TRY(CheckNames(ns));
    auto got = pointers_->GetWithTag(NamespaceKey(ns));
    if (!got && got.error().kind == ErrorKind::kNotFound) return std::unexpected(NoNamespace(ns));
    if (!got) return std::unexpected(std::move(got).error());
    TW_ASSIGN(Json j, ParseJson(got->first, "namespace"));
    if (!j.is_object()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a namespace is no object"));
    TW_ASSIGN(Properties properties, GetProperties(j, "properties", "namespace"));
    return std::pair(std::move(properties), std::move(got->second));
  }

  Status RequireNamespace(const Namespace& ns) {
    TW_TRY(CheckNames(ns));
    auto info = pointers_->Stat(NamespaceKey(ns));
    if (!info && info.error().kind == ErrorKind::kNotFound) return std::unexpected(NoNamespace(ns));
    if (!info) return std::unexpected(std::move(info).error());
    return {};
  }

  Result<std::vector<Namespace>> AllNamespaces() {
    constexpr std::string_view kHead = "namespaces/", kTail = "/namespace.json";
    TW_ASSIGN(auto objects, pointers_->List(std::string(kHead)));
    std::vector<Namespace> out;
    for (const io::ObjectInfo& o : objects) {
      if (!o.key.ends_with(kTail)) continue;
      auto decoded =
          PercentDecode(std::string_view(o.key).substr(kHead.size(), o.key.size() - kHead.size() - kTail.size()));
      if (decoded) out.push_back(SplitNamespace(*decoded));
    }
    return out;
  }

  Result<std::string> DefaultLocation(const TableIdent& ident, const Properties& ns_properties) {
    auto custom = ns_properties.find("location");
    std::string path = custom != ns_properties.end() ? custom->second : warehouse_->Uri();
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    if (custom == ns_properties.end()) {
      for (const std::string& level : ident.ns) path += "/" + PercentEncode(level);
    }
    path += "/" + PercentEncode(ident.name);
    // A table that was dropped or renamed may have left its files there: they must not be taken for ours.
    TW_ASSIGN(auto resolved, files_->Resolve(path));
    TW_ASSIGN(auto there, resolved.store->List(resolved.key + "/"));
    if (!there.empty()) path += "-" + NewUuid().substr(0, 8);
    return path;
  }

  enum class Use { kRead, kWrite };

  /// The pointer with renames completed. kNotFound where there is no table. A pending transaction is looked through
  /// when reading; a writer, who holds the table's mutex, settles it: its coordinator is another process, or dead.
  Result<Pointer> ReadPointer(const TableIdent& ident, Use use) {
    TW_TRY(CheckName(ident));
    std::string key = PointerKey(ident);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      auto got = pointers_->GetWithTag(key);
      if (!got && got.error().kind == ErrorKind::kNotFound) return std::unexpected(NoTable(ident));
      if (!got) return std::unexpected(std::move(got).error());
      TW_ASSIGN(Pointer p, Pointer::Parse(got->first));
      p.tag = std::move(got->second);
      if (!p.moved_to.empty()) {
        TW_TRY(FinishRename(key, p));
        continue;
      }
      if (p.transaction.empty()) return p;
      if (use == Use::kRead) {
        TW_ASSIGN(std::optional<bool> committed, IsCommitted(p.transaction));
        if (committed.value_or(false)) p.location = p.transaction_location;
        if (p.location.empty()) return std::unexpected(NoTable(ident));
        return p;
      }
      TW_TRY(Settle(key, p));
    }
    return std::unexpected(EnvError(ErrorKind::kUnavailable, "table {} changes too often", ident.ToString()));
  }

  /// nullopt while undecided, or when all is settled.
  Result<std::optional<bool>> IsCommitted(const std::string& transaction) {
    auto got = pointers_->Get(TransactionKey(transaction));
    if (!got && got.error().kind == ErrorKind::kNotFound) return std::nullopt;
    if (!got) return std::unexpected(std::move(got).error());
    TW_ASSIGN(Json j, ParseJson(*got, "transaction"));
    return j.is_object() && FindBool(j, "committed", false);
  }

  Status FinishRename(const std::string& key, const Pointer& p) {
    Pointer target;
    target.location = p.location;
    Status put = pointers_->PutIfAbsent(p.moved_to, target.ToJson());
    if (!put && put.error().kind == ErrorKind::kAlreadyExists) {
      // Either this rename got so far before, or another table took the name meanwhile: then the old name stays.
      TW_ASSIGN(auto there, pointers_->GetWithTag(p.moved_to));
      TW_ASSIGN(Pointer other, Pointer::Parse(there.first));
      if (!SameTable(other.location, p.location)) {
        auto restored = pointers_->PutIfMatch(key, target.ToJson(), p.tag);
        if (!restored && restored.error().kind != ErrorKind::kCommitFailed)
          return std::unexpected(std::move(restored).error());
        return std::unexpected(EnvError(ErrorKind::kAlreadyExists, "the new name of the table was taken meanwhile"));
      }
    } else if (!put) {
      return put;
    }
    return pointers_->Delete(key);
  }

  bool SameTable(const std::string& a, const std::string& b) {
    if (a == b) return true;
    auto uuid = [&](const std::string& location) -> std::string {
      auto bytes = files_->Get(location);
      if (!bytes) return "";
      auto m = ParseMetadataFile(*bytes);
      return m ? m->table_uuid : "";
    };
    std::string ua = uuid(a);
    return !ua.empty() && ua == uuid(b);
  }

  /// Brings a pointer that a transaction holds to where the decision puts it; without a decision, the transaction is
  /// refused first.
  Status Settle(const std::string& key, const Pointer& p) {
    std::string record = TransactionKey(p.transaction);
    Status refused = pointers_->PutIfAbsent(record, Dump({{"pointers", {key}}, {"committed", false}}));
    if (!refused && refused.error().kind != ErrorKind::kAlreadyExists) return refused;
    bool committed = false;
    if (!refused) {
      TW_ASSIGN(std::optional<bool> decision, IsCommitted(p.transaction));
      if (!decision) return {};  // settled by others: read again
      committed = *decision;
    }
    Pointer settled;
    settled.location = committed ? p.transaction_location : p.location;
    if (settled.location.empty()) return pointers_->Delete(key);
    auto put = pointers_->PutIfMatch(key, settled.ToJson(), p.tag);
    if (!put && put.error().kind != ErrorKind::kCommitFailed) return std::unexpected(std::move(put).error());
    return {};
  }

  /// Settles every pointer that a decided transaction may still hold, then drops its record.
  Status FinishTransaction(const std::string& record) {
    auto got = pointers_->Get(record);
    if (!got && got.error().kind == ErrorKind::kNotFound) return {};
    if (!got) return std::unexpected(std::move(got).error());
    TW_ASSIGN(Json j, ParseJson(*got, "transaction"));
    const Json* keys = j.is_object() ? FindArray(j, "pointers") : nullptr;
    bool committed = j.is_object() && FindBool(j, "committed", false);
    for (const Json& k : keys ? *keys : Json::array()) {
      if (!k.is_string()) continue;
      std::string key = k.get<std::string>();
      auto pointer = pointers_->GetWithTag(key);
      if (!pointer && pointer.error().kind == ErrorKind::kNotFound) continue;
      if (!pointer) return std::unexpected(std::move(pointer).error());
      TW_ASSIGN(Pointer p, Pointer::Parse(pointer->first));
      p.tag = pointer->second;
      if (!p.transaction.empty() && TransactionKey(p.transaction) == record) TW_TRY(Settle(key, p));
    }
    // A refusal has to outlive its coordinator, who may still be about to decide; it is a few bytes.
    return committed ? pointers_->Delete(record) : Status();
  }

  Result<Table> LoadVersion(const TableIdent& ident, const std::string& location) {
    {
      std::lock_guard lock(cache_mutex_);
      auto it = cache_.find(ident);
      if (it != cache_.end() && it->second.table.metadata_location == location) return it->second.table;
    }
    TW_ASSIGN(std::string bytes, files_->Get(location));
    TW_ASSIGN(TableMetadata metadata, ParseMetadataFile(bytes));
    Table table{ident, location, std::make_shared<const TableMetadata>(std::move(metadata)), files_};
    Remember(table);
    return table;
  }

  void Remember(const Table& table, std::shared_ptr<const std::string> json = nullptr) {
    std::lock_guard lock(cache_mutex_);
    if (cache_.size() >= kCachedTablesMax && !cache_.contains(table.ident)) cache_.erase(cache_.begin());
    Cached& c = cache_[table.ident];
    if (c.table.metadata_location != table.metadata_location) c = {table, nullptr};
    if (json) c.json = std::move(json);
  }

  /// Checks and applies; writes nothing.
  Result<Next> Prepare(const TableCommit& commit) {
    Next next;
    next.table.ident = commit.ident;
    next.table.files = files_;
    auto pointer = ReadPointer(commit.ident, Use::kWrite);
    if (!pointer && pointer.error().kind != ErrorKind::kNotFound) return std::unexpected(std::move(pointer).error());
    int64_t now_ms = WallMicros() / 1000;
    if (!pointer) {
      bool create = std::any_of(commit.requirements.begin(), commit.requirements.end(),
                                [](const Requirement& r) { return std::holds_alternative<AssertCreate>(r); });
      if (!create) return std::unexpected(std::move(pointer).error());
      TW_TRY(RequireNamespace(commit.ident.ns));
      TW_TRY(CheckRequirements(commit.requirements, nullptr));
      TableMetadata metadata;
      metadata.format_version = 1;  // until the updates say more
      TW_TRY(ApplyUpdates(commit.updates, now_ms, &metadata));
      if (metadata.location.empty()) {
        TW_ASSIGN(auto ns, ReadNamespace(commit.ident.ns));
        TW_ASSIGN(metadata.location, DefaultLocation(commit.ident, ns.first));
      }
      TW_TRY(files_->Resolve(metadata.location + "/metadata"));
      next.is_new = true;
      next.table.metadata_location = NewMetadataLocation(metadata, 0);
      next.table.metadata = std::make_shared<const TableMetadata>(std::move(metadata));
      return next;
    }
    next.tag = pointer->tag;
    next.base_location = pointer->location;
    TW_ASSIGN(Table base, LoadVersion(commit.ident, pointer->location));
    TW_TRY(CheckRequirements(commit.requirements, base.metadata.get()));
    if (commit.updates.empty()) {
      next.table = std::move(base);
      next.changed = false;
      return next;
    }
    TableMetadata metadata = *base.metadata;
    TW_TRY(ApplyUpdates(commit.updates, now_ms, &metadata));
    TW_TRY(files_->Resolve(metadata.location + "/metadata"));
    next.outdated = AdvanceMetadataLog(&metadata, base.metadata_location, base.metadata->last_updated_ms);
    next.table.metadata_location = NewMetadataLocation(metadata, MetadataVersion(base.metadata_location) + 1);
    next.table.metadata = std::make_shared<const TableMetadata>(std::move(metadata));
    return next;
  }

  Result<std::shared_ptr<const std::string>> WriteMetadata(const Table& table) {
    auto json = std::make_shared<const std::string>(MetadataToJson(*table.metadata));
    TW_TRY(files_->Put(table.metadata_location, *json));
    return json;
  }

  Status PutPointer(const Table& table) {
    Pointer p;
    p.location = table.metadata_location;
    Status put = pointers_->PutIfAbsent(PointerKey(table.ident), p.ToJson());
    if (!put && put.error().kind == ErrorKind::kAlreadyExists) return std::unexpected(TableExists(table.ident));
    return put;
  }

  /// A new table.
  Result<Table> Publish(Table table) {
    if (table.metadata_location.empty()) table.metadata_location = NewMetadataLocation(*table.metadata, 0);
    TW_ASSIGN(auto json, WriteMetadata(table));
    if (Status put = PutPointer(table); !put) {
      if (put.error().kind == ErrorKind::kAlreadyExists) (void)files_->Delete(table.metadata_location);
      return std::unexpected(std::move(put).error());
    }
    Remember(table, std::move(json));
    return table;
  }

  /// Marks a pointer as held by the transaction.
  Status Hold(Next* next, const std::string& id) {
    Pointer p;
    p.location = next->base_location;
    p.transaction = id;
    p.transaction_location = next->table.metadata_location;
    std::string key = PointerKey(next->table.ident);
    if (next->is_new) {
      Status put = pointers_->PutIfAbsent(key, p.ToJson());
      if (!put)
        return put.error().kind == ErrorKind::kAlreadyExists
                   ? std::unexpected(
                         EnvError(ErrorKind::kCommitFailed, "table {} exists meanwhile", next->table.ident.ToString()))
                   : put;
      TW_ASSIGN(auto got, pointers_->GetWithTag(key));
      next->tag = got.second;
      return {};
    }
    TW_ASSIGN(next->tag, pointers_->PutIfMatch(key, p.ToJson(), next->tag));
    return {};
  }

  void Release(const Next& next) {
    std::string key = PointerKey(next.table.ident);
    if (next.is_new) {
      (void)pointers_->Delete(key);
      return;
    }
    Pointer p;
    p.location = next.base_location;
    (void)pointers_->PutIfMatch(key, p.ToJson(), next.tag);
  }

  void Purge(const Table& table) {
    const TableMetadata& m = *table.metadata;
    TableMetadata nothing;
    auto garbage = FindGarbage(*files_, nothing, m.snapshots);
    if (!garbage) {
      log::warn("iceberg: files of the dropped table {} stay: {}", table.ident.ToString(), garbage.error().message);
      return;
    }
    for (const auto* list : {&m.statistics, &m.partition_statistics}) {
      for (const StatisticsFile& f : *list) garbage->push_back(f.path);
    }
    for (const MetadataLogEntry& e : m.metadata_log) garbage->push_back(e.metadata_file);
    garbage->push_back(table.metadata_location);
    files_->DeleteAll(*garbage);
  }

  const std::shared_ptr<io::ObjectStore> pointers_;
  const std::shared_ptr<io::ObjectStore> warehouse_;
  const Properties client_config_;
  std::shared_ptr<FileAccess> files_;
  std::mutex names_mutex_;  // creating, dropping and renaming
  std::array<std::mutex, 64> table_mutexes_;
  std::mutex cache_mutex_;
  std::map<TableIdent, Cached> cache_;  // guarded by cache_mutex_
};

}  // namespace

std::string TableIdent::ToString() const { return Join(ns, ".") + "." + name; }

Result<std::shared_ptr<EmbeddedCatalog>> OpenEmbeddedCatalog(EmbeddedCatalogOptions options) {
  auto catalog = std::make_shared<Impl>(std::move(options));
  TW_TRY(catalog->Recover());
  return catalog;
}

}  // namespace tidewater::iceberg
