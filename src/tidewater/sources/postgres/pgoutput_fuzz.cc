// links: sources_postgres
#include <cstdlib>
#include "tidewater/sources/postgres/pgoutput.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidewater::postgres;
  std::span<const char> bytes(reinterpret_cast<const char*>(data), size);
  PgoutputDecoder decoder;
  auto check = [&](std::span<const char> message) {
    auto m = decoder.Decode(message);
    if (!m) return;
    for (auto* row : {&(*m)->old_row, &(*m)->new_row})
      if (row->size() > kMaxColumns) abort();
    if ((*m)->truncated.size() > size || (*m)->columns.size() > size) abort();
  };
  check(bytes);
  if (auto outer = DecodeReplication(bytes); outer && outer->type == ReplicationMessage::kData) check(outer->data);
  return 0;
}
