#include "tidewater/io/s3_listing.h"
#include <charconv>
#include <cstdio>
#include <ctime>

namespace tidewater::io {
namespace {

/// Visits <Name>text</Name> pairs in order; elements that hold others are announced when they open and close.
class XmlScanner {
 public:
  explicit XmlScanner(std::string_view xml) : rest_(xml) {}

  enum class Event { kOpen, kClose, kEnd, kBad };
  /// kOpen: name() is the element, text() what stands between it and the next tag. kClose: name().
  Event Next() {
    for (;;) {
      size_t lt = rest_.find('<');
      if (lt == rest_.npos) return Event::kEnd;
      rest_.remove_prefix(lt);
      if (rest_.starts_with("<!--")) {
        size_t end = rest_.find("-->");
        if (end == rest_.npos) return Event::kBad;
        rest_.remove_prefix(end + 3);
        continue;
      }
      size_t gt = rest_.find('>');
      if (gt == rest_.npos) return Event::kBad;
      std::string_view tag = rest_.substr(1, gt - 1);
      rest_.remove_prefix(gt + 1);
      if (tag.empty()) return Event::kBad;
      if (tag[0] == '?' || tag[0] == '!') continue;
      if (tag[0] == '/') {
        name_ = tag.substr(1);
        return Event::kClose;
      }
      if (tag.back() == '/') continue;
      name_ = tag.substr(0, tag.find_first_of(" \t\r\n"));
      text_ = rest_.substr(0, rest_.find('<'));
      return Event::kOpen;
    }
  }
  std::string_view name() const { return name_; }
  std::string_view text() const { return text_; }

 private:
  std::string_view rest_;
  std::string_view name_;
  std::string_view text_;
};

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += {char(0xc0 | c >> 6), char(0x80 | (c & 0x3f))};
  } else if (c < 0x10000) {
    out += {char(0xe0 | c >> 12), char(0x80 | (c >> 6 & 0x3f)), char(0x80 | (c & 0x3f))};
  } else {
    out += {char(0xf0 | c >> 18), char(0x80 | (c >> 12 & 0x3f)), char(0x80 | (c >> 6 & 0x3f)), char(0x80 | (c & 0x3f))};
  }
}

/// Replaces entities; what is not one stays as it is.
std::string Unescape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    size_t amp = text.find('&');
    out += text.substr(0, amp);
    if (amp == text.npos) break;
    text.remove_prefix(amp);
    size_t semi = text.substr(0, 12).find(';');
    std::string_view name = semi == text.npos ? std::string_view() : text.substr(1, semi - 1);
    uint32_t c = 0;
    if (name == "amp") c = '&';
    if (name == "lt") c = '<';
    if (name == "gt") c = '>';
    if (name == "quot") c = '"';
    if (name == "apos") c = '\'';
    if (name.starts_with('#')) {
      bool hex = name.starts_with("#x");
      std::string_view digits = name.substr(hex ? 2 : 1);
      auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), c, hex ? 16 : 10);
      if (error != std::errc() || end != digits.data() + digits.size() || c > 0x10ffff) c = 0;
    }
    if (c == 0) {
      out += '&';
      text.remove_prefix(1);
    } else {
      AppendUtf8(c, out);
      text.remove_prefix(semi + 1);
    }
  }
  return out;
}

std::string UriDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    unsigned c = 0;
    bool coded = text[i] == '%' && i + 2 < text.size() &&
                 std::from_chars(text.data() + i + 1, text.data() + i + 3, c, 16).ptr == text.data() + i + 3;
    // S3's encoding-type=url writes a blank as '+'.
    out += coded ? char(c) : text[i] == '+' ? ' ' : text[i];
    if (coded) i += 2;
  }
  return out;
}

Error Bad(const char* what) { return EnvError(ErrorKind::kCorrupt, "the answer of S3 cannot be read: {}", what); }
}  // namespace

int64_t ParseIsoTimeMs(const std::string& text) {
  tm t{};
  int ms = 0;
  int n = std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
                      &t.tm_min, &t.tm_sec, &ms);
  if (n < 6 || t.tm_year < 1970 || t.tm_mon < 1 || t.tm_mon > 12 || t.tm_mday < 1 || t.tm_mday > 31) return 0;
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  return int64_t(timegm(&t)) * 1000 + (n == 7 ? ms : 0);
}

Result<S3Listing> ParseS3Listing(std::string_view xml) {
  S3Listing out;
  XmlScanner scan(xml);
  bool root = false, closed = false, in_object = false, truncated = false, encoded = false;
  std::string token;
  for (;;) {
    auto event = scan.Next();
    if (event == XmlScanner::Event::kBad) return std::unexpected(Bad("a tag does not end"));
    if (event == XmlScanner::Event::kEnd) break;
    auto name = scan.name();
    if (event == XmlScanner::Event::kClose) {
      if (name == "ListBucketResult") closed = true;
      if (name == "Contents" && in_object) {
        if (out.objects.back().key.empty()) return std::unexpected(Bad("an object without a key"));
        in_object = false;
      }
      continue;
    }
    if (name == "ListBucketResult") root = true;
    if (name == "IsTruncated") truncated = scan.text() == "true";
    if (name == "NextContinuationToken") token = Unescape(scan.text());
    if (name == "EncodingType") encoded = scan.text() == "url";
    if (name == "Contents") {
      out.objects.emplace_back();
      in_object = true;
    }
    if (!in_object) continue;
    auto& object = out.objects.back();
    if (name == "Key") object.key = Unescape(scan.text());
    if (name == "LastModified") object.modified_ms = ParseIsoTimeMs(std::string(scan.text().substr(0, 40)));
    if (name == "Size") {
      auto text = scan.text();
      auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), object.size);
      if (error != std::errc() || end != text.data() + text.size()) return std::unexpected(Bad("an object's size"));
    }
  }
  if (!root || !closed || in_object) return std::unexpected(Bad("not a whole listing"));
  if (truncated && token.empty()) return std::unexpected(Bad("a part of a listing without a token for the next"));
  if (truncated) out.continuation_token = token;
  // The element that tells about the encoding may stand behind the keys.
  if (encoded)
    for (auto& o : out.objects) o.key = UriDecode(o.key);
  return out;
}

S3Error ParseS3Error(std::string_view xml) {
  S3Error out;
  XmlScanner scan(xml);
  bool in_error = false;
  for (;;) {
    auto event = scan.Next();
    if (event == XmlScanner::Event::kEnd || event == XmlScanner::Event::kBad) return out;
    if (event != XmlScanner::Event::kOpen) continue;
    if (scan.name() == "Error") in_error = true;
    if (!in_error) continue;
    if (scan.name() == "Code") out.code = Unescape(scan.text().substr(0, 200));
    if (scan.name() == "Message") out.message = Unescape(scan.text().substr(0, 1000));
  }
}

}  // namespace tidewater::io
