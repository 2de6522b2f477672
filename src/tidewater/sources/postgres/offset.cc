#include "tidewater/sources/postgres/offset.h"
#include <nlohmann/json.hpp>

namespace tidewater::postgres {

using nlohmann::json;

// "16/B374D848 {…}": the position, which changes with every batch, in front of what hardly ever does.

std::string Offset::EncodeLsn(Lsn lsn) { return LsnToText(lsn) + " "; }

std::string Offset::EncodeRest() const {
  json j = {{"v", 1},
            {"system", system},
            {"slot", slot},
            {"slot_ours", slot_ours},
            {"publication", publication},
            {"publication_ours", publication_ours}};
  auto& list = j["tables"] = json::object();
  for (auto& [id, t] : tables) {
    json e = {{"relid", t.relid}, {"attnums", t.attnums}, {"phase", int(t.phase)}, {"rows", t.rows}};
    if (t.truncate) e["truncate"] = true;
    if (!t.bound.empty()) e["bound"] = t.bound;
    if (!t.repair.empty()) e["repair"] = t.repair;
    if (!t.rejected.empty()) e["rejected"] = t.rejected;
    list[std::to_string(id)] = std::move(e);
  }
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string Offset::Encode() const { return EncodeLsn(lsn) + EncodeRest(); }

std::optional<Lsn> Offset::DecodeLsn(const std::string& text) {
  auto at = text.find(' ');
  if (at == std::string::npos) return std::nullopt;
  return LsnFromText(std::string_view(text).substr(0, at));
}

Result<Offset> Offset::Decode(const std::string& text) {
  auto corrupt = [&](const char* why) {
    return std::unexpected(
        EnvError(ErrorKind::kCorrupt, "the recorded position of a postgres-cdc source is unreadable: {}", why));
  };
  auto lsn = DecodeLsn(text);
  if (!lsn) return corrupt("no LSN");
  try {
    auto j = json::parse(text.substr(text.find(' ') + 1));
    if (j.at("v") != 1) return corrupt("written by a newer version");
    Offset o;
    o.lsn = *lsn;
    o.system = j.at("system");
    o.slot = j.at("slot");
    o.slot_ours = j.at("slot_ours");
    o.publication = j.at("publication");
    o.publication_ours = j.at("publication_ours");
    for (auto& [id, e] : j.at("tables").items()) {
      TableOffset t;
      t.relid = e.at("relid");
      t.attnums = e.at("attnums").get<std::vector<int>>();
      int phase = e.at("phase");
      if (phase < 0 || phase > TableOffset::kLoaded) return corrupt("phase of a load");
      t.phase = TableOffset::Phase(phase);
      t.rows = e.at("rows");
      t.truncate = e.value("truncate", false);
      if (e.contains("bound")) t.bound = e["bound"].get<std::vector<std::string>>();
      if (e.contains("repair")) t.repair = e["repair"].get<std::set<std::vector<std::string>>>();
      if (e.contains("rejected")) t.rejected = e["rejected"].get<std::set<std::string>>();
      o.tables[ObjectId(std::stoul(id))] = std::move(t);
    }
    return o;
  } catch (const std::exception& e) {
    return corrupt(e.what());
  }
}

}  // namespace tidewater::postgres
