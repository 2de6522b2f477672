#include "tidewater/sources/api/source.h"

namespace tidewater {
std::string ToString(SourceState state) {
  switch (state) {
    case SourceState::kStarting:
      return "starting";
    case SourceState::kLoading:
      return "loading";
    case SourceState::kStreaming:
      return "streaming";
    case SourceState::kRetrying:
      return "retrying";
    case SourceState::kFailed:
      return "failed";
    case SourceState::kStopped:
      return "stopped";
  }
  return "unknown";
}

SourceRegistry& SourceRegistry::Get() {
  static SourceRegistry registry;
  return registry;
}
void SourceRegistry::Register(SourceConnector connector) {
  auto name = connector.name;
  connectors_.insert_or_assign(name, std::move(connector));
}
Result<const SourceConnector*> SourceRegistry::Find(const std::string& name) const {
  auto it = connectors_.find(name);
  if (it != connectors_.end()) return &it->second;
  std::string known;
  for (auto& [n, c] : connectors_) known += (known.empty() ? "'" : ", '") + n + "'";
  return std::unexpected(
      UserError("22023", "unknown source connector \"{}\"", name).WithHint("Known connectors: " + known + "."));
}
}  // namespace tidewater
