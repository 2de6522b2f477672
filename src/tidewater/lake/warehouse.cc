#include "tidewater/lake/warehouse.h"
#include <mutex>

namespace tidewater::lake {

std::string DefaultWarehouse(const std::string& state) {
  std::string uri = state;
  while (uri.size() > 1 && uri.ends_with('/')) uri.pop_back();
  return uri + "/warehouse";
}

Result<std::shared_ptr<iceberg::EmbeddedCatalog>> OpenWarehouse(
    const std::string& uri, const std::map<std::string, std::string>& store_options) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, std::map<std::string, std::string>>, std::weak_ptr<iceberg::EmbeddedCatalog>>
      open;
  std::lock_guard lock(mutex);
  auto& known = open[{uri, store_options}];
  if (auto catalog = known.lock()) return catalog;
  iceberg::EmbeddedCatalogOptions options;
  TW_ASSIGN(options.warehouse, io::OpenStore(uri, store_options));
  TW_ASSIGN(options.pointers, io::OpenStore(uri + "/_catalog", store_options));
  options.store_options = store_options;
  options.client_config = store_options;
  TW_ASSIGN(auto catalog, iceberg::OpenEmbeddedCatalog(std::move(options)));
  known = catalog;
  return catalog;
}

}  // namespace tidewater::lake
