// Tokens of PostgreSQL's SQL, with their places in the text. Nothing here understands a statement.
#pragma once
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::sql {

enum class TokenKind { kWord, kQuotedWord, kString, kNumber, kParameter, kSymbol, kEnd };

struct Token {
  TokenKind kind = TokenKind::kEnd;
  /// kWord: folded to lower case. kQuotedWord and kString: without quotes and escapes. kSymbol: one character, but "::"
  /// whole.
  std::string text;
  size_t begin = 0, end = 0;  ///< bytes in the text

  bool Is(std::string_view word) const {
    return (kind == TokenKind::kWord || kind == TokenKind::kSymbol) && text == word;
  }
  bool IsName() const { return kind == TokenKind::kWord || kind == TokenKind::kQuotedWord; }
};

/// The tokens of a text; the last one is kEnd. Comments, nested ones too, are skipped. 42601 with position for what
/// never ends; 54000 for a text above 16 MiB.
Result<std::vector<Token>> Tokenize(std::string_view sql);

/// A word, in lower case, that DuckDB 1.5 does not take as the name of a column and PostgreSQL 15 does.
bool IsReservedByDuckDBAlone(std::string_view word);

/// The 1-based position in characters (UTF-8) of a byte offset, as the protocol counts.
int CharacterPosition(std::string_view sql, size_t offset);

/// "syntax error at or near ..." at that token.
Error SyntaxError(std::string_view sql, const Token& token);

}  // namespace tidewater::sql
