// links: iceberg
// A Puffin file, a deletion vector, a manifest, a manifest list from outside. The first byte chooses.
#include <cstddef>
#include <cstdint>
#include "tidewater/base/check.h"
#include "tidewater/iceberg/manifest.h"
#include "tidewater/iceberg/puffin.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidewater::iceberg;
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: {
      auto set = PositionSet::FromBlob(bytes);
      if (!set) break;
      // What was read once is written and read again as the same.
      auto again = PositionSet::FromBlob(set->ToBlob());
      TW_CHECK(again && *again == *set, "a deletion vector changed");
      break;
    }
    case 1: {
      auto blobs = ReadPuffinFooter(bytes);
      if (!blobs) break;
      for (const PuffinBlob& b : *blobs) (void)PositionSet::FromBlob(bytes.substr(b.offset, b.length));
      break;
    }
    case 2: {
      ManifestFile file;
      file.first_row_id = 0;
      (void)DecodeManifest(bytes, file);
      break;
    }
    default:
      (void)DecodeManifestList(bytes);
  }
  return 0;
}
