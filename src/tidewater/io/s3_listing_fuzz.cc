// links: io
// Answers of an S3 server.
#include "tidewater/io/s3_listing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view xml(reinterpret_cast<const char*>(data), size);
  (void)tidewater::io::ParseS3Listing(xml);
  (void)tidewater::io::ParseS3Error(xml);
  (void)tidewater::io::ParseIsoTimeMs(std::string(xml));
  return 0;
}
