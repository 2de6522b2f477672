// The XML answers of S3, as far as they are needed. Bounded: works on one answer in memory, without recursion.
#pragma once
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/io/object_store.h"

namespace tidewater::io {

struct S3Listing {
  std::vector<ObjectInfo> objects;
  /// Set when there is more: for the next request.
  std::string continuation_token;
};

/// The answer of ListObjectsV2. kCorrupt where it is not one.
Result<S3Listing> ParseS3Listing(std::string_view xml);

struct S3Error {
  std::string code;
  std::string message;
};
/// <Error><Code>, <Message>; empty where the body is something else.
S3Error ParseS3Error(std::string_view xml);

/// "2009-10-12T17:50:30.000Z" in ms since 1970, 0 where it is something else.
int64_t ParseIsoTimeMs(const std::string& text);

}  // namespace tidewater::io
