// One moto server for the tests of a process, started when it is first asked for; it ends with the process.
#pragma once
#include <map>
#include <string>

namespace tidewater::io {
class S3ServerForTests {
 public:
  /// Options for OpenStore("s3://bucket/..."); the bucket exists. Empty where moto is not installed.
  static std::map<std::string, std::string> Options();
};
}  // namespace tidewater::io
