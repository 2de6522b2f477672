// What every store demands of a key, and the tag of an object's content.
#pragma once
#include <string>
#include <string_view>
#include "tidewater/base/result.h"

namespace tidewater::io {

/// kInternal unless `key` is relative, non-empty, without empty, "." or ".." parts and without NUL.
Status CheckKey(std::string_view key);
/// The same for a prefix of List: it may be empty and end inside a name or behind a '/'.
Status CheckPrefix(std::string_view prefix);
/// A tag that two contents share only when they are equal (128-bit hash and length).
std::string ContentTag(std::string_view bytes);

}  // namespace tidewater::io
