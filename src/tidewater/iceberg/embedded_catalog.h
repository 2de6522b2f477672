// The embedded catalog: namespaces and table pointers in an object store, decided by conditional puts. No server, no
// database.
//
// Layout under the catalog's store (names percent-encoded, levels of a namespace joined by "%1F"):
//   namespaces/NS/namespace.json          {"properties": {…}}
//   namespaces/NS/tables/NAME.json        {"metadata-location": …} or, while a rename is under way, {"moved-to": …}
//   beside it transactions/ID.json                  a commit over several tables that has been decided; rolled forward
//   when found
#pragma once
#include <memory>
#include <string>
#include "tidewater/iceberg/catalog.h"

namespace tidewater::iceberg {

struct EmbeddedCatalogOptions {
  /// Where the pointers lie: outside the engine's checkpoints.
  std::shared_ptr<io::ObjectStore> pointers;
  /// Where tables lie by default: WAREHOUSE/ns/table.
  std::shared_ptr<io::ObjectStore> warehouse;
  /// Given to REST clients in the config of a table ("s3.endpoint", "s3.access-key-id", …). Holds secrets: never
  /// logged.
  Properties client_config;
  /// Opens locations outside the warehouse (register, explicit locations); empty: refused.
  std::map<std::string, std::string> store_options;
  bool allow_foreign_locations = false;
};

/// Several processes may use one store. Completes what a crash left (renames, transactions) when it opens.
Result<std::shared_ptr<class EmbeddedCatalog>> OpenEmbeddedCatalog(EmbeddedCatalogOptions options);

class EmbeddedCatalog : public Catalog {
 public:
  /// The metadata of a table that is not there yet, for stage-create. Nothing is written.
  virtual Result<Table> StageTable(const TableIdent& ident, const TableSpec& spec) = 0;
  /// All or nothing.
  virtual Status CommitTransaction(const std::vector<TableCommit>& commits) = 0;
  /// The serialized metadata of a loaded table; kept per version, for REST loads.
  virtual std::shared_ptr<const std::string> MetadataJson(const Table& table) = 0;
  virtual const Properties& client_config() const = 0;
  virtual std::string warehouse_uri() const = 0;
};

}  // namespace tidewater::iceberg
