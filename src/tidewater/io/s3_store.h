// Objects in a bucket of Amazon S3 or of a server that speaks its protocol.
#pragma once
#include "tidewater/io/object_store.h"

namespace tidewater::io {

/// Opens "s3://bucket[/prefix]" with the options of OpenStore and lists one key, so that a wrong endpoint, bucket or
/// credential is told at once. Requests are tried again with growing pauses while the server is unreachable or
/// overloaded, for `s3.retry-ms` (30,000) milliseconds at most. A conditional put whose answers got lost is looked up
/// afterwards; where that does not tell either, it fails with kCommitStateUnknown. Needs a server with conditional PUT
/// (kUnsupported otherwise). An object has at most 5 GiB, the limit of one PUT.
Result<std::shared_ptr<ObjectStore>> OpenS3Store(const std::string& uri,
                                                 const std::map<std::string, std::string>& options);

}  // namespace tidewater::io
