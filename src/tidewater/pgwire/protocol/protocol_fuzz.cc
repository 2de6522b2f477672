// links: pgwire_protocol
#include <cstddef>
#include <cstdint>
#include <string_view>
#include "tidewater/pgwire/protocol/frontend.h"
#include "tidewater/pgwire/protocol/scram.h"

using namespace tidewater::pgwire;

/// The first byte picks the state of the connection; the rest is what the client sends, fed in two cuts.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::string_view input(reinterpret_cast<const char*>(data + 2), size - 2);
  static const auto verifier = *ScramVerifier::FromPassword(tidewater::Secret("fuzz"), "saltsaltsaltsalt", 1);
  switch (data[0] % 4) {
    case 0: {
      FrameReader reader;
      size_t cut = data[1] % (input.size() + 1);
      for (auto part : {input.substr(0, cut), input.substr(cut)}) {
        reader.Append(part);
        while (true) {
          auto frame = reader.Next(true, kAuthenticationBytesMax);
          if (!frame) return 0;
          if (!*frame) break;
          if (auto message = ParseFrontend(**frame)) {
            if (auto* bind = std::get_if<Bind>(&*message)) {
              for (size_t i = 0; i < bind->values.size(); i++) FormatOf(bind->parameter_formats, i);
            }
          }
        }
      }
      break;
    }
    case 1:
      (void)ParseStartup(input);
      break;
    case 2:
      (void)ParseSaslInitialResponse(input);
      break;
    default: {
      ScramServer server(verifier, "nonce");
      size_t cut = data[1] % (input.size() + 1);
      if (server.First(input.substr(0, cut))) (void)server.Final(input.substr(cut));
      (void)ScramVerifier::FromText(input);
    }
  }
  return 0;
}
