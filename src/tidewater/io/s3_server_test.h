// S3 servers for the tests of a process, each started when it is first asked for; they end with the process.
#pragma once
#include <map>
#include <string>

namespace tidewater::io {
enum class S3Kind { kMoto, kVersitygw };

class S3ServerForTests {
 public:
  /// Options for OpenStore("s3://bucket/..."); the bucket exists. Empty where the server is not installed.
  static std::map<std::string, std::string> Options(S3Kind kind);
  /// What a test says that is skipped for it.
  static std::string NotInstalled(S3Kind kind);
};
}  // namespace tidewater::io
