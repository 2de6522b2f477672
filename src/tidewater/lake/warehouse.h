// The embedded catalog of this process, opened once per warehouse: sinks write through it, the REST server serves it.
#pragma once
#include <map>
#include <memory>
#include <string>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/embedded_catalog.h"

namespace tidewater::lake {

/// Where the warehouse of a state lies unless an option says otherwise: STATE/warehouse (STATE is `--state`).
std::string DefaultWarehouse(const std::string& state);

/// `store_options` as io::OpenStore takes them. Tables lie under URI/NAMESPACE/TABLE, their pointers under
/// URI/_catalog. Calls with the same arguments share one object as long as somebody holds it. Any thread.
Result<std::shared_ptr<iceberg::EmbeddedCatalog>> OpenWarehouse(
    const std::string& uri, const std::map<std::string, std::string>& store_options);

}  // namespace tidewater::lake
