// links: sql
// Any text: splitting, parsing and rewriting end without a crash, and what they say of places lies inside the text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include "tidewater/sql/rewrite.h"
#include "tidewater/sql/statement.h"
#include "tidewater/sql/tokens.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidewater::sql;
  std::string text(reinterpret_cast<const char*>(data), size);
  auto tokens = Tokenize(text);
  auto parts = SplitStatements(text);
  if (tokens.has_value() != parts.has_value()) abort();
  if (tokens)
    for (auto& t : *tokens)
      if (t.begin > t.end || t.end > text.size()) abort();
  if (parts)
    for (auto& p : *parts) {
      auto s = ParseStatement(p);
      if (!s && (s.error().sqlstate.size() != 5 || s.error().position < 0 || size_t(s.error().position) > p.size() + 1))
        abort();
    }
  if (auto r = RewriteQuery(text))
    for (size_t i = 0; i <= r->text.size(); i += 7) r->Original(i);
  RewriteColumns(text);
  return 0;
}
