// The WITH clause of a 'postgres-cdc' source.
#pragma once
#include <map>
#include <string>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/base/secret.h"

namespace tidewater::postgres {

struct Options {
  std::string host, port = "5432", user, database;
  Secret password;
  std::string slot;  ///< slot.name; by default made of the source's name and id
  std::string publication = "tidewater_publication";
  bool create_publication = true;
  std::string schema = "public";    ///< for table names without one
  std::string ssl_mode = "prefer";  ///< libpq's words
  std::string ssl_root_cert;
  /// Rows read at once in an initial load; fewer when they are wide.
  size_t load_chunk_rows = 65536;

  /// 22023 naming the option.
  static Result<Options> Parse(const std::map<std::string, std::string>& options);
  /// The slot's name for a source that did not choose one: a legal name that stays the same over restarts.
  static std::string DefaultSlot(const std::string& source, ObjectId id);
};

}  // namespace tidewater::postgres
