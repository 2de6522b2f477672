// An engine inside the test program, and rows as text: what the SQL runner, the oracle and the crash test share.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/engine/engine.h"
#include "tidewater/engine/session.h"

namespace tidewater::test {

/// A folder of its own below the system's temporary folder, removed with the object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// The result of one statement; values as text: NULL is "NULL", an empty string "(empty)", booleans t and f.
struct Rows {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::string tag;
};

Result<Rows> Run(engine::Session& session, const std::string& sql, std::vector<duckdb::Value> parameters = {});
/// Ends the program with the error when the statement fails.
Rows MustRun(engine::Session& session, const std::string& sql);
/// Lines of "a|b|c", sorted: a multiset that compares with ==.
std::vector<std::string> Sorted(const Rows& rows);

}  // namespace tidewater::test
