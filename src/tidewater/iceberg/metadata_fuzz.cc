// links: iceberg
// Table metadata and commit requests from outside. What parses is written and parses again to the same text.
#include <cstddef>
#include <cstdint>
#include "tidewater/base/check.h"
#include "tidewater/iceberg/update.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidewater::iceberg;
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    auto metadata = ParseMetadataFile(bytes);
    if (!metadata) return 0;
    std::string text = MetadataToJson(*metadata);
    auto again = ParseMetadataJson(text);
    TW_CHECK(again.has_value(), "{}", again.error().message);
    TW_CHECK(MetadataToJson(*again) == text, "{}", text);
    return 0;
  }
  auto request = ParseCommitRequest(bytes);
  if (!request) return 0;
  TableMetadata metadata;
  metadata.table_uuid = "u";
  metadata.schemas.emplace_back();
  metadata.specs.emplace_back();
  (void)CheckRequirements(request->requirements, &metadata);
  (void)ApplyUpdates(request->updates, 1, &metadata);
  return 0;
}
