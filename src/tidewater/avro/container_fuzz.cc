// links: avro
// A container file from outside: header, schema, blocks, values along the schema.
#include <cstddef>
#include <cstdint>
#include "tidewater/avro/container.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidewater::avro;
  auto reader = Reader::Open(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!reader) return 0;
  while (true) {
    auto block = reader->Next();
    if (!block || !*block) return 0;
    Decoder d((*block)->data);
    for (int64_t i = 0; i < (*block)->records && d.ok(); ++i) d.Skip(reader->schema().root());
  }
}
