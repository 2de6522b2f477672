#include <gtest/gtest.h>
#include "tidewater/pgwire/protocol/backend.h"
#include "tidewater/pgwire/protocol/frontend.h"
#include "tidewater/pgwire/protocol/scram.h"

namespace tidewater::pgwire {
namespace {

std::string Typed(char type, const std::string& body) {
  std::string out(1, type);
  PutInt32(out, int32_t(body.size() + 4));
  return out + body;
}

TEST(Frame, AnyCutGivesTheSameMessages) {
  auto stream = Typed('Q', std::string("select 1\0", 9)) + Typed('S', "") + Typed('H', "");
  for (size_t cut = 0; cut <= stream.size(); cut++) {
    FrameReader reader;
    std::string types;
    for (auto& part : {stream.substr(0, cut), stream.substr(cut)}) {
      reader.Append(part);
      while (true) {
        auto frame = reader.Next(true, 100);
        ASSERT_TRUE(frame);
        if (!*frame) break;
        types.push_back((*frame)->type);
      }
    }
    EXPECT_EQ(types, "QSH");
    EXPECT_EQ(reader.pending(), 0u);
  }
}

TEST(Frame, RefusesLengthsBeforeKeepingThem) {
  FrameReader reader;
  std::string header = "Q";
  PutInt32(header, 0x7fffffff);
  reader.Append(header);
  auto frame = reader.Next(true, kMessageBytesMax);
  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().sqlstate, "54000");

  FrameReader small;
  small.Append(std::string("\0\0\0\3", 4));
  EXPECT_EQ(small.Next(false, kStartupBytesMax).error().sqlstate, "08P01");
}

TEST(Startup, ParametersAndRequests) {
  std::string body;
  PutInt32(body, 3 << 16 | 2);
  for (auto s : {"user", "ada", "database", "dev"}) PutCString(body, s);
  body.push_back('\0');
  auto startup = ParseStartup(body);
  ASSERT_TRUE(startup);
  EXPECT_EQ(startup->minor_version, 2);
  EXPECT_EQ(startup->Get("user"), "ada");
  EXPECT_EQ(startup->Get("nothing"), "");
  for (size_t n = 0; n < body.size(); n++) EXPECT_FALSE(ParseStartup(body.substr(0, n))) << n;

  std::string cancel;
  PutInt32(cancel, 80877102);
  PutInt32(cancel, 7);
  PutInt32(cancel, -2);
  EXPECT_EQ(ParseStartup(cancel)->secret_key, 0xfffffffeu);
  std::string old;
  PutInt32(old, 2 << 16);
  EXPECT_EQ(ParseStartup(old).error().sqlstate, "0A000");
}

TEST(Frontend, BindWithNullsAndFormats) {
  std::string body;
  PutCString(body, "p");
  PutCString(body, "s");
  PutInt16(body, 1);
  PutInt16(body, 1);
  PutInt16(body, 2);
  PutInt32(body, -1);
  PutInt32(body, 3);
  body += "abc";
  PutInt16(body, 0);
  auto message = ParseFrontend({'B', body});
  ASSERT_TRUE(message);
  auto& bind = std::get<Bind>(*message);
  EXPECT_EQ(bind.values.size(), 2u);
  EXPECT_FALSE(bind.values[0]);
  EXPECT_EQ(*bind.values[1], "abc");
  EXPECT_EQ(FormatOf(bind.parameter_formats, 1), 1);
  EXPECT_EQ(FormatOf(bind.result_formats, 1), 0);
  for (size_t n = 0; n < body.size(); n++) EXPECT_FALSE(ParseFrontend({'B', std::string_view(body).substr(0, n)})) << n;
  EXPECT_FALSE(ParseFrontend({'B', body + "x"}));
}

TEST(Frontend, CountsAboveTheBodyAllocateNothing) {
  std::string body;
  PutCString(body, "");
  PutCString(body, "select");
  PutInt16(body, -1);
  EXPECT_EQ(ParseFrontend({'P', body}).error().sqlstate, "08P01");
  EXPECT_EQ(ParseFrontend({'!', ""}).error().sqlstate, "08P01");
  EXPECT_FALSE(ParseFrontend({'D', std::string_view("X\0", 2)}));
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_FALSE(InvalidUtf8At("plain, grün, 冰山, 🧊"));
  EXPECT_EQ(InvalidUtf8At("ab\xff"), 2u);
  EXPECT_EQ(InvalidUtf8At("a\xc0\x80"), 1u);     // overlong
  EXPECT_EQ(InvalidUtf8At("\xed\xa0\x80"), 0u);  // surrogate
  EXPECT_EQ(InvalidUtf8At("\xf4\x90\x80\x80"), 0u);
  EXPECT_EQ(InvalidUtf8At("gr\xc3"), 2u);
  EXPECT_EQ(InvalidUtf8At(std::string_view("a\0", 2)), 1u);
}

TEST(Scram, ExampleOfRfc7677) {
  auto salt = *Base64Decode("W22ZaJ0SNY7soEsUEjb6gQ==");
  auto verifier = *ScramVerifier::FromPassword(Secret("pencil"), salt, 4096);
  ScramServer server(verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
  auto first = server.First("n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  ASSERT_TRUE(first);
  EXPECT_EQ(*first, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
  auto final = server.Final(
      "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  ASSERT_TRUE(final) << final.error().message;
  EXPECT_EQ(*final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  auto again = server.Final(
      "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().sqlstate, "28P01");
}

TEST(Scram, VerifierTextRoundTrip) {
  auto verifier = *ScramVerifier::FromPassword(Secret("s3cret"));
  auto again = ScramVerifier::FromText(verifier.ToText());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->ToText(), verifier.ToText());
  for (auto bad : {"", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:$a:b", "SCRAM-SHA-256$x:c2FsdA==$YQ==:YQ==", "md5abc"}) {
    EXPECT_FALSE(ScramVerifier::FromText(bad)) << bad;
  }
  EXPECT_FALSE(ScramVerifier::FromPassword(Secret("")));
  EXPECT_FALSE(ScramVerifier::FromPassword(Secret("päss")));
}

TEST(Scram, RefusesMalformed) {
  auto verifier = *ScramVerifier::FromPassword(Secret("x"), "salt", 1);
  for (auto bad :
       {"", "n", "n,", "x,,n=,r=a", "p=tls-unique,,n=,r=a", "n,a=me,n=,r=a", "n,,m=1,n=,r=a", "n,,n=,r=", "n,,r=a"}) {
    ScramServer server(verifier);
    EXPECT_FALSE(server.First(bad)) << bad;
  }
  ScramServer server(verifier, "N");
  ASSERT_TRUE(server.First("n,,n=,r=c"));
  for (auto bad : {"", "c=biws", "c=eSws,r=cN,p=AA==", "c=biws,r=cX,p=AA==", "c=biws,r=cN,p=AA==", "c=biws,r=cN,p=?"}) {
    EXPECT_FALSE(server.Final(bad)) << bad;
  }
}

TEST(Base64, Strict) {
  for (std::string s : {"", "a", "ab", "abc", "abcd"}) EXPECT_EQ(*Base64Decode(Base64Encode(s)), s);
  for (auto bad : {"a", "ab=c", "=abc", "ab==cd==", "ab\n="}) EXPECT_FALSE(Base64Decode(bad)) << bad;
}

TEST(Backend, ErrorFields) {
  std::string out;
  PutError(out, UserError("42601", "syntax error").WithPosition(3));
  EXPECT_EQ(out[0], 'E');
  EXPECT_NE(out.find("C42601"), out.npos);
  EXPECT_NE(out.find("P3"), out.npos);
  EXPECT_EQ(size_t(uint8_t(out[4])), out.size() - 1);
}

}  // namespace
}  // namespace tidewater::pgwire
