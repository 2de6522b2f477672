// links: pgwire_server
#include <cstddef>
#include <cstdint>
#include <string_view>
#include "tidewater/pgwire/server/parameter.h"
#include "tidewater/pgwire/server/pg_type.h"
#include "tidewater/pgwire/server/row_encoder.h"
#include "tidewater/pgwire/server/time_zone.h"

using namespace tidewater::pgwire;

/// A parameter as a client may send it: the first byte picks the type, the second the format, the rest are its bytes.
/// What comes out must print. The same bytes are also read as a time zone file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  constexpr uint32_t kOids[] = {16,   17,   18,   20,   21,   23,   25,   26,   114,  700,  701,  1043, 1082,
                                1083, 1114, 1184, 1186, 1266, 1562, 1700, 2950, 3802, 1007, 1009, 1231, 0};
  uint32_t oid = kOids[data[0] % std::size(kOids)];
  std::string_view bytes(reinterpret_cast<const char*>(data + 2), size - 2);
  auto target = TypeOfOid(oid);
  if (target.id() == duckdb::LogicalTypeId::SQLNULL) target = tidewater::LogicalType::VARCHAR;
  auto value = DecodeParameter(oid, data[1] % 2 == 1, bytes, target, *TimeZone::Utc());
  if (value && !value->IsNull()) {
    std::string text;
    AppendValueText(text, *value, *TimeZone::Utc());
  }
  if (auto zone = TimeZone::FromTzif(bytes)) {
    for (int64_t t : {int64_t{-5'000'000'000}, int64_t{0}, int64_t{4'000'000'000}})
      (void)zone->ToUtc(zone->OffsetAt(t));
  }
  return 0;
}
