#include "tidewater/sql/bridge.h"

namespace tidewater::sql {
const std::vector<SystemTable>& SystemTables() {
  static const std::vector<SystemTable> tables;
  return tables;
}
}  // namespace tidewater::sql
