// Runs sqllogictest files against an engine inside this process.
//
//   slt_runner [--restart] [--crash] [--workers N] [--step-rows N] FILE...
//
// --restart: stops and opens the engine after every statement outside a transaction; --crash: without a last
// checkpoint. Records: "statement ok", "statement count N", "statement error [REGEX]" (against "SQLSTATE: message"),
// "query TYPES [nosort|rowsort|valuesort]" with rows of blank-separated values behind "----", "query error [REGEX]",
// "connection NAME", "sleep N ms", "restart", "halt", "skipif MODE", "onlyif MODE" (restart, crash, plain). Comments
// begin with "#".
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <thread>
#include "harness.h"
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"
#include "tidewater/sinks/blackhole/blackhole.h"
#include "tidewater/sources/nexmark/nexmark.h"

namespace tidewater::test {
namespace {

struct Options {
  bool restart = false, crash = false;
  int workers = 1;
  size_t step_rows = 0;
};

std::string Normal(const std::string& line) {
  std::istringstream in(line);
  std::string word, out;
  while (in >> word) out += (out.empty() ? "" : " ") + word;
  return out;
}

class Runner {
 public:
  Runner(const Options& options, std::string file) : options_(options), file_(std::move(file)) {}

  bool Run() {
    std::ifstream in(file_);
    if (!in) {
      fprintf(stderr, "%s: cannot be read\n", file_.c_str());
      return false;
    }
    for (std::string line; std::getline(in, line);) lines_.push_back(line);
    Open();
    while (at_ < lines_.size() && !halted_) Record();
    sessions_.clear();
    engine_.reset();
    printf("%s %s: %d records, %d failed\n", failed_ ? "FAIL" : "ok  ", file_.c_str(), records_, failed_);
    return failed_ == 0;
  }

 private:
  void Open() {
    engine::EngineOptions options;
    options.state = dir_.path();
    options.workers = options_.workers;
    if (options_.step_rows) options.min_step_rows = options.max_step_rows = options_.step_rows;
    options.min_step_interval_us = 0;
    auto opened = engine::Engine::Open(options);
    TW_CHECK(opened.has_value(), "{}", opened.error().ToString());
    engine_ = std::move(*opened);
    auto started = engine_->Start();
    TW_CHECK(started.has_value(), "{}", started.error().ToString());
  }
  void Restart(bool crash) {
    sessions_.clear();
    if (crash) engine_->Abandon();
    engine_.reset();
    Open();
  }
  engine::Session& Session() {
    auto& session = sessions_[connection_];
    if (!session) session = engine::OpenSession(*engine_, {});
    return *session;
  }

  void Fail(size_t line, const std::string& why) {
    failed_++;
    fprintf(stderr, "%s:%zu: %s\n", file_.c_str(), line + 1, why.c_str());
  }

  std::string ReadSql() {
    std::string sql;
    while (at_ < lines_.size() && !lines_[at_].empty() && lines_[at_] != "----")
      sql += (sql.empty() ? "" : "\n") + lines_[at_++];
    return sql;
  }
  std::vector<std::string> ReadExpected() {
    std::vector<std::string> out;
    if (at_ < lines_.size() && lines_[at_] == "----") {
      at_++;
      while (at_ < lines_.size() && !lines_[at_].empty()) out.push_back(Normal(lines_[at_++]));
    }
    return out;
  }
  bool Mode(const std::string& name) const {
    if (name == "restart") return options_.restart || options_.crash;
    if (name == "crash") return options_.crash;
    return name == "plain" && !options_.restart && !options_.crash;
  }
  void CheckError(size_t line, const std::string& sql, const std::string& pattern, const Result<Rows>& result) {
    if (result) return Fail(line, "no error from: " + sql);
    auto text = result.error().sqlstate + ": " + result.error().ToString();
    if (!pattern.empty() && !std::regex_search(text, std::regex(pattern)))
      Fail(line, "another error than /" + pattern + "/: " + text);
  }

  void Record() {
    auto line = lines_[at_];
    if (line.empty() || line[0] == '#') {
      at_++;
      return;
    }
    auto begin = at_++;
    std::istringstream words(line);
    std::string kind, what;
    words >> kind;
    if (kind == "skipif" || kind == "onlyif") {
      words >> what;
      skip_ = Mode(what) == (kind == "skipif");
      return;
    }
    if (kind == "halt") {
      halted_ = true;
      return;
    }
    if (kind == "connection") {
      words >> connection_;
      return;
    }
    if (kind == "restart") {
      Restart(true);
      return;
    }
    if (kind == "sleep") {
      int ms = 0;
      words >> ms;
      std::this_thread::sleep_for(std::chrono::milliseconds(ms));
      return;
    }
    if (kind != "statement" && kind != "query") return Fail(begin, "unknown record: " + line);
    words >> what;
    std::string rest;
    std::getline(words, rest);
    rest = Normal(rest);
    auto sql = ReadSql();
    auto expected = ReadExpected();
    if (std::exchange(skip_, false)) return;
    records_++;
    auto result = test::Run(Session(), sql);
    if (what == "error") {
      CheckError(begin, sql, rest, result);
    } else if (!result) {
      Fail(begin, result.error().sqlstate + ": " + result.error().ToString() +
                      (result.error().hint.empty() ? "" : " HINT: " + result.error().hint) + "\n  in: " + sql);
    } else if (kind == "statement") {
      if (what == "count" && result->tag.substr(result->tag.rfind(' ') + 1) != rest)
        Fail(begin, "\"" + result->tag + "\" instead of " + rest + " rows");
    } else {
      Compare(begin, what, rest, *result, expected);
    }
    if (!options_.restart && !options_.crash) return;
    for (auto& [name, session] : sessions_)
      if (session->transaction_status() != engine::TransactionStatus::kIdle) return;
    // Settings belong to the session, and so end with it.
    Restart(options_.crash);
  }

  void Compare(size_t begin, const std::string& types, const std::string& sort, const Rows& result,
               std::vector<std::string> expected) {
    if (types.size() != result.columns.size())
      return Fail(begin, fmt::format("{} columns instead of {}", result.columns.size(), types.size()));
    std::vector<std::string> actual;
    for (auto& row : result.rows) {
      std::string text;
      for (auto& v : row) {
        if (sort == "valuesort") {
          actual.push_back(Normal(v));
        } else {
          text += (text.empty() ? "" : " ") + v;
        }
      }
      if (sort != "valuesort") actual.push_back(Normal(text));
    }
    if (sort == "rowsort" || sort == "valuesort") {
      std::sort(actual.begin(), actual.end());
      std::sort(expected.begin(), expected.end());
    }
    if (actual == expected) return;
    std::string text = "other rows.\n  expected:\n";
    for (auto& e : expected) text += "    " + e + "\n";
    text += "  actual:\n";
    for (auto& a : actual) text += "    " + a + "\n";
    Fail(begin, text);
  }

  const Options options_;
  const std::string file_;
  TempDir dir_;
  std::unique_ptr<engine::Engine> engine_;
  std::map<std::string, std::unique_ptr<engine::Session>> sessions_;
  std::string connection_ = "default";
  std::vector<std::string> lines_;
  size_t at_ = 0;
  bool skip_ = false, halted_ = false;
  int records_ = 0, failed_ = 0;
};

}  // namespace
}  // namespace tidewater::test

int main(int argc, char** argv) {
  tidewater::test::Options options;
  std::vector<std::string> files;
  for (int i = 1; i < argc; i++) {
    std::string arg = argv[i];
    if (arg == "--restart") {
      options.restart = true;
    } else if (arg == "--crash") {
      options.crash = true;
    } else if (arg == "--workers" && i + 1 < argc) {
      options.workers = atoi(argv[++i]);
    } else if (arg == "--step-rows" && i + 1 < argc) {
      options.step_rows = size_t(atoi(argv[++i]));
    } else {
      files.push_back(arg);
    }
  }
  spdlog::set_level(spdlog::level::warn);
  if (files.empty()) {
    fprintf(stderr, "no files\n");
    return 2;
  }
  tidewater::RegisterNexmark();
  tidewater::RegisterBlackhole();
  bool ok = true;
  for (auto& file : files) ok &= tidewater::test::Runner(options, file).Run();
  return ok ? 0 : 1;
}
