#include <atomic>
#include <mutex>
#include <thread>
#include <gtest/gtest.h>
#include <httplib.h>
#include "tidewater/io/object_store.h"
#include "tidewater/io/s3_listing.h"
#include "tidewater/io/s3_server_test.h"

namespace tidewater::io {
namespace {

/// A stand-in for a server in trouble, which no real one can be told to be: keeps objects, fails as the test says.
/// Everything that a healthy server does is tested against real servers (object_store_test.cc).
class TroubledServer {
 public:
  TroubledServer() {
    auto path = R"(/bucket/(.*))";
    server_.Put(path, [this](auto& request, auto& response) { Handle(request, response); });
    server_.Get(R"(/bucket/?)", [](auto&, auto& response) {
      response.set_content("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", "application/xml");
    });
    server_.Get(path, [this](auto& request, auto& response) { Handle(request, response); });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
  }
  ~TroubledServer() {
    server_.stop();
    thread_.join();
  }
  std::shared_ptr<ObjectStore> Open(const std::string& retry_ms = "10000") {
    return *OpenStore("s3://bucket", {{"s3.endpoint", "http://127.0.0.1:" + std::to_string(port_)},
                                      {"s3.access-key-id", "id"},
                                      {"s3.secret-access-key", "hidden"},
                                      {"s3.retry-ms", retry_ms}});
  }
  /// The next `n` requests for objects are answered with this status, before or after they take effect.
  void Fail(int n, int status, bool after = false) {
    std::lock_guard lock(mutex_);
    failures_ = n;
    status_ = status;
    after_ = after;
  }
  void SetConditions(bool honoured) { conditions_ = honoured; }
  int requests() const { return requests_; }
  std::map<std::string, std::string> objects() {
    std::lock_guard lock(mutex_);
    return objects_;
  }
  void Overwrite(const std::string& key, const std::string& bytes) {
    std::lock_guard lock(mutex_);
    objects_[key] = bytes;
  }

 private:
  static std::string Tag(const std::string& bytes) {
    return "\"" + std::to_string(std::hash<std::string>()(bytes)) + "\"";
  }

  void Handle(const httplib::Request& request, httplib::Response& response) {
    requests_++;
    std::lock_guard lock(mutex_);
    std::string key = request.matches[1];
    bool fail = key.find("probe") == key.npos && failures_ > 0;
    failures_ -= fail;
    if (!fail || after_) {
      auto it = objects_.find(key);
      bool there = it != objects_.end();
      if (request.method == "GET") {
        response.status = there ? 200 : 404;
        if (there) response.set_header("ETag", Tag(it->second));
        if (there) response.set_content(it->second, "application/octet-stream");
      } else {
        std::string match = request.get_header_value("If-Match");
        bool refuse = conditions_ && ((request.has_header("If-None-Match") && there) ||
                                      (!match.empty() && (!there || Tag(it->second) != match)));
        response.status = refuse ? 412 : 200;
        if (!refuse) objects_[key] = request.body;
        response.set_header("ETag", Tag(request.body));
      }
    }
    if (fail) {
      response.status = status_;
      response.set_content("<Error><Code>SlowDown</Code><Message>Please</Message></Error>", "application/xml");
    }
  }

  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  std::atomic<bool> conditions_{true};
  std::atomic<int> requests_{0};
  std::mutex mutex_;
  // Guarded by mutex_.
  int failures_ = 0;
  int status_ = 0;
  bool after_ = false;
  std::map<std::string, std::string> objects_;
};

TEST(S3StoreTest, TriesAgain) {
  TroubledServer server;
  auto store = server.Open();
  for (int status : {500, 503, 429}) {
    server.Fail(3, status);
    EXPECT_TRUE(store->Put("a", "1"));
    server.Fail(2, status);
    EXPECT_EQ(store->Get("a").value_or(""), "1");
  }
}

TEST(S3StoreTest, GivesUpInTime) {
  TroubledServer server;
  auto store = server.Open("300");
  server.Fail(1000, 503);
  auto got = store->Get("a");
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::kUnavailable);
  EXPECT_NE(got.error().detail.find("SlowDown"), std::string::npos);
  EXPECT_LT(server.requests(), 8);
}

TEST(S3StoreTest, DoesNotTryAgainWhatIsRefused) {
  TroubledServer server;
  auto store = server.Open();
  server.Fail(1, 403);
  EXPECT_EQ(store->Get("a").error().kind, ErrorKind::kAuthentication);
  EXPECT_EQ(server.requests(), 1);
}

TEST(S3StoreTest, LostAnswersOfConditionalPuts) {
  TroubledServer server;
  auto store = server.Open();
  // Our create took effect, its answer was lost, the second attempt meets our own object.
  server.Fail(1, 500, true);
  EXPECT_TRUE(store->PutIfAbsent("a", "mine"));
  server.Fail(1, 500, true);
  EXPECT_EQ(store->PutIfAbsent("a", "other").error().kind, ErrorKind::kAlreadyExists);
  auto tag = store->GetWithTag("a")->second;
  server.Fail(1, 500, true);
  auto next = store->PutIfMatch("a", "2", tag);
  ASSERT_TRUE(next) << next.error().ToString();
  EXPECT_EQ(*next, store->GetWithTag("a")->second);
  // Somebody else has replaced it since: ours may have been there in between.
  server.Overwrite("a", "theirs");
  server.Fail(1, 500);
  EXPECT_EQ(store->PutIfMatch("a", "3", *next).error().kind, ErrorKind::kCommitStateUnknown);
  EXPECT_EQ(store->PutIfMatch("a", "3", *next).error().kind, ErrorKind::kCommitFailed);
}

TEST(S3StoreTest, NoAnswerAtAllIsUnknown) {
  TroubledServer server;
  auto store = server.Open("200");
  ASSERT_TRUE(store->Put("a", "1"));
  auto tag = store->GetWithTag("a")->second;
  server.Fail(1000, 500, true);
  EXPECT_EQ(store->PutIfMatch("a", "2", tag).error().kind, ErrorKind::kCommitStateUnknown);
}

TEST(S3StoreTest, RefusesServersWithoutConditions) {
  TroubledServer server;
  server.SetConditions(false);
  auto store = server.Open();
  EXPECT_EQ(store->PutIfAbsent("a", "1").error().kind, ErrorKind::kUnsupported);
  EXPECT_EQ(store->PutIfMatch("a", "1", "x").error().kind, ErrorKind::kUnsupported);
}

TEST(S3StoreTest, ConfigurationErrors) {
  std::map<std::string, std::string> good = {{"s3.endpoint", "http://127.0.0.1:1"},
                                             {"s3.access-key-id", "id"},
                                             {"s3.secret-access-key", "hidden"},
                                             {"s3.retry-ms", "100"}};
  auto with = [&](const std::string& uri, const std::string& name = "", const std::string& value = "") {
    auto options = good;
    if (!name.empty()) options[name] = value;
    auto store = OpenStore(uri, options);
    EXPECT_FALSE(store);
    EXPECT_EQ(store.error().ToString().find("hidden"), std::string::npos);
    return store.error();
  };
  EXPECT_EQ(with("s3://").kind, ErrorKind::kUser);
  EXPECT_EQ(with("s3://a?b/c").kind, ErrorKind::kUser);
  EXPECT_EQ(with("s3://bucket/a/../b").kind, ErrorKind::kUser);
  EXPECT_EQ(with("s3://bucket", "s3.endpoint", "127.0.0.1").kind, ErrorKind::kUser);
  EXPECT_EQ(with("s3://bucket", "s3.endpoint", "http://user@host").kind, ErrorKind::kUser);
  EXPECT_EQ(with("s3://bucket", "s3.path-style-access", "maybe").kind, ErrorKind::kUser);
  EXPECT_EQ(with("s3://bucket", "s3.access-key-id", "").sqlstate, "28000");
  EXPECT_EQ(with("s3://bucket").kind, ErrorKind::kUnavailable);
}

TEST(S3StoreTest, MissingBucketIsTold) {
  for (auto kind : {S3Kind::kMoto, S3Kind::kVersitygw}) {
    auto options = S3ServerForTests::Options(kind);
    if (options.empty()) GTEST_SKIP() << S3ServerForTests::NotInstalled(kind);
    auto store = OpenStore("s3://no-such-bucket/x", options);
    ASSERT_FALSE(store);
    EXPECT_NE(store.error().detail.find("NoSuchBucket"), std::string::npos) << store.error().ToString();
  }
}

TEST(S3ListingTest, Parses) {
  auto page = ParseS3Listing(
      "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
      "<Contents><Key>a%20b%2Bc+d&amp;e</Key><LastModified>2009-10-12T17:50:30.123Z</LastModified><Size>434234</Size>"
      "<Owner><ID>x</ID></Owner></Contents><CommonPrefixes/><Contents><Key>k&#x20AC;&lt;</Key><Size>0</Size></Contents>"
      "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t&quot;1</"
      "NextContinuationToken>"
      "</ListBucketResult>");
  ASSERT_TRUE(page) << page.error().ToString();
  ASSERT_EQ(page->objects.size(), 2u);
  EXPECT_EQ(page->objects[0].key, "a b+c d&e");
  EXPECT_EQ(page->objects[0].size, 434234u);
  EXPECT_EQ(page->objects[0].modified_ms, 1255369830123);
  EXPECT_EQ(page->objects[1].key, "k€<");
  EXPECT_EQ(page->continuation_token, "t\"1");
}

TEST(S3ListingTest, RefusesWhatIsNotWhole) {
  for (auto xml : {"", "<html>", "<ListBucketResult>", "<ListBucketResult><Contents></ListBucketResult>",
                   "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
                   "<ListBucketResult><Contents></Contents></ListBucketResult>",
                   "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"})
    EXPECT_FALSE(ParseS3Listing(xml)) << xml;
  EXPECT_EQ(ParseS3Error("<Error><Code>A</Code><Message>b &lt; c</Message></Error>").message, "b < c");
  EXPECT_EQ(ParseS3Error("not xml").code, "");
}

}  // namespace
}  // namespace tidewater::io
