// Catalog: where tables are found by name, and where commits are decided.
#pragma once
#include <compare>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/files.h"
#include "tidewater/iceberg/metadata.h"
#include "tidewater/iceberg/update.h"

namespace tidewater::iceberg {

using Namespace = std::vector<std::string>;  ///< levels

struct TableIdent {
  Namespace ns;
  std::string name;
  auto operator<=>(const TableIdent&) const = default;
  std::string ToString() const;  ///< "a.b.table"
};

/// A table at one version. Immutable; load again for a newer one.
struct Table {
  TableIdent ident;
  std::string metadata_location;
  std::shared_ptr<const TableMetadata> metadata;  ///< shared between readers of one version
  std::shared_ptr<FileAccess> files;              ///< opens the table's locations with the catalog's credentials
};

struct TableCommit {
  TableIdent ident;
  std::vector<Requirement> requirements;
  std::vector<MetadataUpdate> updates;
};

/// Thread-safe. Errors of every call besides those named: kUnavailable (may be tried again), kAuthentication, kIo,
/// kUnsupported.
class Catalog {
 public:
  virtual ~Catalog() = default;

  /// Direct children of `parent` (empty: the top level), full names.
  virtual Result<std::vector<Namespace>> ListNamespaces(const Namespace& parent) = 0;
  virtual Status CreateNamespace(const Namespace& ns, const Properties& properties) = 0;  ///< kAlreadyExists
  virtual Result<Properties> LoadNamespace(const Namespace& ns) = 0;                      ///< kNotFound
  virtual Status UpdateNamespace(const Namespace& ns, const Properties& set,
                                 const std::vector<std::string>& removed) = 0;
  virtual Status DropNamespace(const Namespace& ns) = 0;  ///< kNotFound; kConflict when not empty
  virtual Result<std::vector<TableIdent>> ListTables(const Namespace& ns) = 0;

  /// An empty spec.location is chosen by the catalog. kAlreadyExists; kNotFound for the namespace.
  virtual Result<Table> CreateTable(const TableIdent& ident, const TableSpec& spec) = 0;
  virtual Result<Table> LoadTable(const TableIdent& ident) = 0;  ///< kNotFound
  /// kCommitFailed: nothing happened, refresh and try again. kCommitStateUnknown: look before trying again. kNotFound.
  /// Returns the table as of this commit.
  virtual Result<Table> Commit(const TableCommit& commit) = 0;
  virtual Status DropTable(const TableIdent& ident, bool purge) = 0;             ///< kNotFound
  virtual Status RenameTable(const TableIdent& from, const TableIdent& to) = 0;  ///< kNotFound, kAlreadyExists
  virtual Result<Table> RegisterTable(const TableIdent& ident,
                                      const std::string& metadata_location) = 0;  ///< kAlreadyExists
};

}  // namespace tidewater::iceberg
