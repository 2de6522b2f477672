#include "tidewater/catalog/catalog.h"
#include <algorithm>
#include <set>
#include <nlohmann/json.hpp>

namespace tidewater::catalog {
namespace {

using nlohmann::json;
constexpr int kEncodingVersion = 1;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return text;
}
std::string NameKey(const std::string& schema, const std::string& name) { return Lower(schema) + '\0' + Lower(name); }

json ToJson(const Object& o) {
  json columns = json::array();
  for (auto& c : o.columns) {
    json column = {{"name", c.name}, {"type", c.type}};
    if (c.not_null) column["not_null"] = true;
    if (c.upstream_id) column["upstream_id"] = c.upstream_id;
    columns.push_back(std::move(column));
  }
  json secrets = json::object();
  for (auto& [k, v] : o.secrets) secrets[k] = v.Reveal();
  json out = {{"id", o.id},
              {"type", int(o.type)},
              {"schema", o.schema},
              {"name", o.name},
              {"columns", std::move(columns)},
              {"primary_key", o.primary_key},
              {"sql", o.sql},
              {"options", o.options},
              {"secrets", std::move(secrets)},
              {"query", o.query},
              {"plan", o.plan},
              {"depends_on", o.depends_on},
              {"source", o.source},
              {"upstream_table", o.upstream_table},
              {"input", o.input},
              {"stream_only", o.stream_only},
              {"hidden", o.hidden}};
  if (o.freeze) out["freeze"] = {{"reason", o.freeze->reason}, {"epoch", o.freeze->epoch}, {"cause", o.freeze->cause}};
  return out;
}

Object FromJson(const json& j) {
  Object o;
  o.id = j.at("id").get<ObjectId>();
  int type = j.at("type").get<int>();
  if (type < 0 || type > int(ObjectType::kSink)) throw std::out_of_range("object type " + std::to_string(type));
  o.type = ObjectType(type);
  o.schema = j.at("schema").get<std::string>();
  o.name = j.at("name").get<std::string>();
  for (auto& c : j.at("columns"))
    o.columns.push_back({c.at("name").get<std::string>(), c.at("type").get<std::string>(), c.value("not_null", false),
                         c.value("upstream_id", 0)});
  o.primary_key = j.at("primary_key").get<std::vector<uint32_t>>();
  for (auto k : o.primary_key)
    if (k >= o.columns.size()) throw std::out_of_range("primary key column " + std::to_string(k));
  o.sql = j.at("sql").get<std::string>();
  o.options = j.at("options").get<std::map<std::string, std::string>>();
  for (auto& [k, v] : j.at("secrets").items()) o.secrets[k] = Secret(v.get<std::string>());
  o.query = j.at("query").get<std::string>();
  o.plan = j.at("plan").get<std::string>();
  o.depends_on = j.at("depends_on").get<std::vector<ObjectId>>();
  o.source = j.at("source").get<ObjectId>();
  o.upstream_table = j.at("upstream_table").get<std::string>();
  o.input = j.at("input").get<ObjectId>();
  o.stream_only = j.at("stream_only").get<bool>();
  o.hidden = j.at("hidden").get<bool>();
  if (auto freeze = j.find("freeze"); freeze != j.end())
    o.freeze = Freeze{freeze->at("reason").get<std::string>(), freeze->at("epoch").get<uint64_t>(),
                      freeze->at("cause").get<ObjectId>()};
  return o;
}

}  // namespace

const char* ToString(ObjectType type) {
  switch (type) {
    case ObjectType::kSource:
      return "source";
    case ObjectType::kTable:
      return "table";
    case ObjectType::kMaterializedView:
      return "materialized view";
    case ObjectType::kView:
      return "view";
    case ObjectType::kSink:
      return "sink";
  }
  return "object";
}

std::map<std::string, std::string> Object::ClearOptions() const {
  auto all = options;
  for (auto& [k, v] : secrets) all[k] = v.Reveal();
  return all;
}

ObjectPtr Contents::Find(ObjectId id) const {
  auto it = objects_.find(id);
  return it == objects_.end() ? nullptr : it->second;
}

ObjectPtr Contents::Find(const std::string& schema, const std::string& name) const {
  auto it = by_name_.find(NameKey(schema, name));
  if (it == by_name_.end()) return nullptr;
  auto object = Find(it->second);
  return object->schema == schema && object->name == name ? object : nullptr;
}

std::vector<ObjectPtr> Contents::Dependents(ObjectId id) const {
  std::vector<ObjectPtr> result;
  for (auto& [other_id, other] : objects_)
    if (std::find(other->depends_on.begin(), other->depends_on.end(), id) != other->depends_on.end())
      result.push_back(other);
  return result;
}

Result<std::vector<ObjectPtr>> Contents::PlanDrop(ObjectId id, bool cascade) const {
  auto root = Find(id);
  if (!root) return std::unexpected(UserError("42704", "object {} does not exist", id));
  std::set<ObjectId> dropped = {id};
  // A sink AS SELECT owns its hidden view: the view goes when the sink does.
  auto add_hidden_inputs = [&](const Object& o) {
    if (o.type != ObjectType::kSink || !o.input) return;
    auto input = Find(o.input);
    if (input && input->hidden) dropped.insert(input->id);
  };
  add_hidden_inputs(*root);
  // Dependents have larger ids, so one pass in order of ids finds them all.
  std::string detail;
  for (auto& [other_id, other] : objects_) {
    if (dropped.count(other_id)) continue;
    for (auto dependency : other->depends_on) {
      if (!dropped.count(dependency)) continue;
      dropped.insert(other_id);
      if (!other->hidden) {
        if (!detail.empty()) detail += "\n";
        auto on = Find(dependency);
        // The hidden view between a sink and a relation is not named: the sink is.
        if (on->hidden) on = root;
        detail +=
            fmt::format("{} {} depends on {} {}", ToString(other->type), other->name, ToString(on->type), on->name);
      }
      break;
    }
  }
  if (!cascade && !detail.empty())
    return std::unexpected(
        UserError("2BP01", "cannot drop {} {} because other objects depend on it", ToString(root->type), root->name)
            .WithDetail(detail)
            .WithHint("Use DROP ... CASCADE to drop the dependent objects too."));
  std::vector<ObjectPtr> order;
  for (auto it = dropped.rbegin(); it != dropped.rend(); ++it) order.push_back(Find(*it));
  return order;
}

Catalog::Catalog() : current_(std::make_shared<Contents>()) {}

std::shared_ptr<const Contents> Catalog::Current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

ObjectId Catalog::NextId() {
  std::lock_guard lock(mutex_);
  auto next = std::make_shared<Contents>(*current_);
  auto id = next->next_id_++;
  current_ = std::move(next);
  return id;
}

Status Catalog::Add(Object object) {
  std::lock_guard lock(mutex_);
  auto next = std::make_shared<Contents>(*current_);
  auto key = NameKey(object.schema, object.name);
  if (auto it = next->by_name_.find(key); it != next->by_name_.end()) {
    auto other = next->Find(it->second);
    if (other->name == object.name && other->schema == object.schema)
      return std::unexpected(other->type == ObjectType::kSource || other->type == ObjectType::kSink
                                 ? UserError("42710", "{} \"{}\" already exists", ToString(other->type), object.name)
                                 : UserError("42P07", "relation \"{}\" already exists", object.name));
    return std::unexpected(
        UserError("42710", "the name \"{}\" differs from the existing {} \"{}\" in case only", object.name,
                  ToString(other->type), other->name)
            .WithHint("Names must differ in more than case, also when they are quoted; choose another name."));
  }
  for (auto id : object.depends_on)
    if (!next->Find(id))
      return std::unexpected(UserError("42704", "an object that \"{}\" depends on was dropped meanwhile", object.name));
  if (object.id == 0) object.id = next->next_id_;
  next->next_id_ = std::max(next->next_id_, object.id + 1);
  next->by_name_[key] = object.id;
  auto id = object.id;
  next->objects_[id] = std::make_shared<const Object>(std::move(object));
  next->version_++;
  current_ = std::move(next);
  return {};
}

Status Catalog::Replace(Object object) {
  std::lock_guard lock(mutex_);
  auto old = current_->Find(object.id);
  if (!old) return std::unexpected(UserError("42704", "{} \"{}\" does not exist", ToString(object.type), object.name));
  auto next = std::make_shared<Contents>(*current_);
  auto id = object.id;
  object.schema = old->schema;
  object.name = old->name;
  object.type = old->type;
  next->objects_[id] = std::make_shared<const Object>(std::move(object));
  next->version_++;
  current_ = std::move(next);
  return {};
}

void Catalog::Remove(const std::vector<ObjectId>& ids) {
  std::lock_guard lock(mutex_);
  auto next = std::make_shared<Contents>(*current_);
  for (auto id : ids) {
    auto object = next->Find(id);
    if (!object) continue;
    next->by_name_.erase(NameKey(object->schema, object->name));
    next->objects_.erase(id);
  }
  next->version_++;
  current_ = std::move(next);
}

std::string Catalog::Encode() const {
  auto contents = Current();
  json objects = json::array();
  for (auto& [id, object] : contents->objects()) objects.push_back(ToJson(*object));
  json all = {{"encoding", kEncodingVersion}, {"next_id", contents->next_id_}, {"objects", std::move(objects)}};
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

Status Catalog::Decode(const std::string& text) {
  auto next = std::make_shared<Contents>();
  try {
    auto all = json::parse(text);
    if (all.at("encoding").get<int>() != kEncodingVersion)
      return std::unexpected(
          EnvError(ErrorKind::kCorrupt, "catalog: unknown encoding {}", all.at("encoding").get<int>()));
    for (auto& j : all.at("objects")) {
      auto object = FromJson(j);
      auto id = object.id;
      if (!next->by_name_.emplace(NameKey(object.schema, object.name), id).second)
        return std::unexpected(EnvError(ErrorKind::kCorrupt, "catalog: the name {} occurs twice", object.name));
      if (!next->objects_.emplace(id, std::make_shared<const Object>(std::move(object))).second)
        return std::unexpected(EnvError(ErrorKind::kCorrupt, "catalog: the id {} occurs twice", id));
    }
    next->next_id_ = all.at("next_id").get<ObjectId>();
    if (!next->objects_.empty()) next->next_id_ = std::max(next->next_id_, next->objects_.rbegin()->first + 1);
  } catch (const std::exception& e) {
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "catalog: {}", e.what()));
  }
  std::lock_guard lock(mutex_);
  next->version_ = current_->version_ + 1;
  current_ = std::move(next);
  return {};
}

}  // namespace tidewater::catalog
