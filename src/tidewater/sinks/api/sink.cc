#include "tidewater/sinks/api/sink.h"

namespace tidewater {
SinkRegistry& SinkRegistry::Get() {
  static SinkRegistry registry;
  return registry;
}
void SinkRegistry::Register(SinkConnector connector) {
  auto name = connector.name;
  connectors_.insert_or_assign(name, std::move(connector));
}
Result<const SinkConnector*> SinkRegistry::Find(const std::string& name) const {
  auto it = connectors_.find(name);
  if (it != connectors_.end()) return &it->second;
  std::string known;
  for (auto& [n, c] : connectors_) known += (known.empty() ? "'" : ", '") + n + "'";
  return std::unexpected(
      UserError("22023", "unknown sink connector \"{}\"", name).WithHint("Known connectors: " + known + "."));
}
}  // namespace tidewater
