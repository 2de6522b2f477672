#include "tidewater/io/sigv4.h"
#include <gtest/gtest.h>

namespace tidewater::io {
namespace {
/// The worked examples of the Amazon S3 API reference, "Signature Calculations for the Authorization Header".
class SigV4Test : public testing::Test {
 protected:
  std::string Signature(SignedRequest request) {
    request.headers["host"] = "examplebucket.s3.amazonaws.com";
    if (request.payload_sha256.empty()) request.payload_sha256 = Sha256Hex("");
    std::string value = SignV4(request, credentials_, "us-east-1", "s3", 1369353600);
    EXPECT_EQ(request.headers["x-amz-date"], "20130524T000000Z");
    return value.substr(value.rfind('=') + 1);
  }
  AwsCredentials credentials_{"AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), {}};
};

TEST_F(SigV4Test, GetWithRange) {
  EXPECT_EQ(Signature({"GET", "/test.txt", {}, {{"range", "bytes=0-9"}}, ""}),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}
TEST_F(SigV4Test, Put) {
  EXPECT_EQ(Signature({"PUT",
                       "/" + UriEncode("test$file.text", true),
                       {},
                       {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                       Sha256Hex("Welcome to Amazon S3.")}),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}
TEST_F(SigV4Test, QueryWithoutValue) {
  EXPECT_EQ(Signature({"GET", "/", {{"lifecycle", ""}}, {}, ""}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}
TEST_F(SigV4Test, List) {
  EXPECT_EQ(Signature({"GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}, {}, ""}),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}
TEST_F(SigV4Test, TokenIsSignedAndNotShown) {
  credentials_.session_token = Secret("tok/en");
  SignedRequest request{"GET", "/", {}, {{"host", "h"}}, Sha256Hex("")};
  std::string value = SignV4(request, credentials_, "us-east-1", "s3", 0);
  EXPECT_NE(value.find("x-amz-security-token"), value.npos);
  EXPECT_EQ(value.find("wJalr"), value.npos);
  EXPECT_EQ(request.headers["x-amz-security-token"], "tok/en");
}

}  // namespace
}  // namespace tidewater::io
