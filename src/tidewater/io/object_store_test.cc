#include "tidewater/io/object_store.h"
#include <filesystem>
#include <fstream>
#include <thread>
#include <gtest/gtest.h>
#include "tidewater/io/object_key.h"
#include "tidewater/io/s3_server_test.h"

namespace tidewater::io {
namespace {
namespace fs = std::filesystem;

std::string FreshFolder() {
  std::string path = fs::temp_directory_path() / "tidewater-io-XXXXXX";
  return mkdtemp(path.data());
}

/// Every store keeps the contract of object_store.h; the parameter is its URI.
class ObjectStoreTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string uri = GetParam();
    std::map<std::string, std::string> options;
    if (uri == "local") uri = folder_ = FreshFolder();
    if (uri == "moto" || uri == "versitygw") {
      auto kind = uri == "moto" ? S3Kind::kMoto : S3Kind::kVersitygw;
      options = S3ServerForTests::Options(kind);
      if (options.empty()) GTEST_SKIP() << S3ServerForTests::NotInstalled(kind);
      static int count = 0;
      uri = "s3://bucket/test " + std::to_string(count++) + "/ü+&";
    }
    auto store = OpenStore(uri, options);
    ASSERT_TRUE(store) << store.error().ToString();
    store_ = *store;
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  std::vector<std::string> Keys(const std::string& prefix) {
    std::vector<std::string> keys;
    auto objects = store_->List(prefix);
    EXPECT_TRUE(objects);
    if (objects)
      for (auto& o : *objects) keys.push_back(o.key);
    return keys;
  }
  std::string folder_;
  std::shared_ptr<ObjectStore> store_;
};

TEST_P(ObjectStoreTest, PutsAndGets) {
  ASSERT_TRUE(store_->Put("a/b/c", "hello"));
  EXPECT_EQ(*store_->Get("a/b/c"), "hello");
  ASSERT_TRUE(store_->Put("a/b/c", std::string_view("\0x", 2)));
  EXPECT_EQ(*store_->Get("a/b/c"), std::string("\0x", 2));
  ASSERT_TRUE(store_->Put("empty", ""));
  EXPECT_EQ(*store_->Get("empty"), "");
  EXPECT_EQ(store_->Stat("a/b/c")->size, 2u);
  EXPECT_GT(store_->Stat("a/b/c")->modified_ms, 1'600'000'000'000);
}

TEST_P(ObjectStoreTest, MissingIsNotFound) {
  ASSERT_TRUE(store_->Put("a/b", "x"));
  for (auto key : {"no", "a", "a/b/c", "x/y"}) {
    EXPECT_EQ(store_->Get(key).error().kind, ErrorKind::kNotFound) << key;
    EXPECT_EQ(store_->GetRange(key, 0, 1).error().kind, ErrorKind::kNotFound) << key;
    EXPECT_EQ(store_->GetWithTag(key).error().kind, ErrorKind::kNotFound) << key;
    EXPECT_EQ(store_->Stat(key).error().kind, ErrorKind::kNotFound) << key;
    EXPECT_TRUE(store_->Delete(key)) << key;
  }
  EXPECT_EQ(*store_->Get("a/b"), "x");
}

TEST_P(ObjectStoreTest, RangesEndWithTheObject) {
  ASSERT_TRUE(store_->Put("r", "0123456789"));
  EXPECT_EQ(*store_->GetRange("r", 2, 3), "234");
  EXPECT_EQ(*store_->GetRange("r", 8, 30), "89");
  EXPECT_EQ(*store_->GetRange("r", 10, 1), "");
  EXPECT_EQ(*store_->GetRange("r", 99, 1), "");
  EXPECT_EQ(*store_->GetRange("r", 3, 0), "");
}

TEST_P(ObjectStoreTest, PutIfAbsentCreatesOnce) {
  ASSERT_TRUE(store_->PutIfAbsent("d/once", "1"));
  EXPECT_EQ(store_->PutIfAbsent("d/once", "2").error().kind, ErrorKind::kAlreadyExists);
  EXPECT_EQ(*store_->Get("d/once"), "1");
  ASSERT_TRUE(store_->Delete("d/once"));
  EXPECT_TRUE(store_->PutIfAbsent("d/once", "3"));
}

TEST_P(ObjectStoreTest, PutIfMatchReplacesWhatItSaw) {
  EXPECT_EQ(store_->PutIfMatch("p/ptr", "x", "tag").error().kind, ErrorKind::kCommitFailed);
  ASSERT_TRUE(store_->Put("p/ptr", "1"));
  auto [bytes, tag] = *store_->GetWithTag("p/ptr");
  EXPECT_EQ(bytes, "1");
  auto next = store_->PutIfMatch("p/ptr", "2", tag);
  ASSERT_TRUE(next) << next.error().ToString();
  EXPECT_EQ(store_->PutIfMatch("p/ptr", "3", tag).error().kind, ErrorKind::kCommitFailed);
  EXPECT_EQ(*store_->Get("p/ptr"), "2");
  EXPECT_TRUE(store_->PutIfMatch("p/ptr", "3", *next));
}

TEST_P(ObjectStoreTest, ConditionalPutsDecideRaces) {
  ASSERT_TRUE(store_->Put("n", "0"));
  std::atomic<int> created{0}, failed{0};
  auto work = [&] {
    if (store_->PutIfAbsent("race/x", "mine")) created++;
    for (int i = 0; i < 20; i++) {
      for (;;) {
        auto seen = store_->GetWithTag("n");
        if (!seen) return void(failed++);
        if (store_->PutIfMatch("n", std::to_string(std::stoi(seen->first) + 1), seen->second)) break;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) threads.emplace_back(work);
  for (auto& t : threads) t.join();
  EXPECT_EQ(created, 1);
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(*store_->Get("n"), "80");
}

TEST_P(ObjectStoreTest, ListsByPrefixSorted) {
  for (auto key : {"log/2.seg", "log/10.seg", "log/1.seg", "log-x", "logs/a/b", "other", "log/sub/z"})
    ASSERT_TRUE(store_->Put(key, key));
  using V = std::vector<std::string>;
  EXPECT_EQ(Keys("log/"), (V{"log/1.seg", "log/10.seg", "log/2.seg", "log/sub/z"}));
  EXPECT_EQ(Keys("log/1"), (V{"log/1.seg", "log/10.seg"}));
  EXPECT_EQ(Keys("log"), (V{"log-x", "log/1.seg", "log/10.seg", "log/2.seg", "log/sub/z", "logs/a/b"}));
  EXPECT_EQ(Keys("nothing/here"), V{});
  EXPECT_EQ(Keys("").size(), 7u);
  EXPECT_EQ(store_->List("other")->at(0).size, 5u);
}

TEST_P(ObjectStoreTest, RefusesBadKeys) {
  for (auto key : {"", "/abs", "a/../b", "..", ".", "a//b", "a/"}) EXPECT_FALSE(store_->Put(key, "x")) << key;
  EXPECT_FALSE(store_->List("../"));
}

INSTANTIATE_TEST_SUITE_P(Stores, ObjectStoreTest, testing::Values("local", "memory:", "moto", "versitygw"),
                         [](auto& info) {
                           std::string name = info.param;
                           return name.substr(0, name.find(':'));
                         });

TEST_P(ObjectStoreTest, ListsManyKeysAndStrangeNames) {
  std::vector<std::string> keys = {"x/a b", "x/a%20b", "x/a&amp;b", "x/ä€😀", "x/plus+", "x/<tag>'\"", "x/a=1/b=2"};
  for (auto& key : keys) ASSERT_TRUE(store_->Put(key, key));
  for (auto& key : keys) EXPECT_EQ(store_->Get(key).value_or("missing"), key);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(Keys("x/"), keys);
  if (store_->Uri().starts_with("s3:")) {
    for (int i = 0; i < 1005; i++) ASSERT_TRUE(store_->Put("many/" + std::to_string(i), ""));
    EXPECT_EQ(Keys("many/").size(), 1005u);
  }
}

TEST_P(ObjectStoreTest, KeepsLargeObjects) {
  std::string large(20u << 20, 'x');
  for (size_t i = 0; i < large.size(); i += 4096) large[i] = char(i >> 12);
  ASSERT_TRUE(store_->Put("large", large));
  EXPECT_TRUE(store_->Get("large") == large);
  EXPECT_EQ(store_->GetRange("large", 5'000'000, 100).value_or(""), large.substr(5'000'000, 100));
}

TEST(LocalStoreTest, LeavesNoTemporaryFiles) {
  std::string folder = FreshFolder();
  auto store = *OpenStore("file://" + folder);
  EXPECT_EQ(store->Uri(), "file://" + folder);
  EXPECT_EQ(store->LocalRoot(), folder);
  ASSERT_TRUE(store->Put("a", "1"));
  ASSERT_TRUE(store->PutIfAbsent("b", "1"));
  ASSERT_FALSE(store->PutIfAbsent("b", "1"));
  EXPECT_TRUE(fs::is_empty(folder + "/.tmp"));
  std::ofstream(folder + "/.tmp/left") << "half";
  ASSERT_TRUE((*OpenStore(folder + "/below"))->Put("c", "1"));
  EXPECT_TRUE(store->Delete("below/c"));
  EXPECT_EQ(store->List("")->size(), 2u);
  ASSERT_TRUE(OpenStore(folder));
  EXPECT_TRUE(fs::exists(folder + "/.tmp/left"));
  fs::last_write_time(folder + "/.tmp/left", fs::file_time_type::clock::now() - std::chrono::hours(2));
  ASSERT_TRUE(OpenStore(folder));
  EXPECT_FALSE(fs::exists(folder + "/.tmp/left"));
  fs::remove_all(folder);
}

TEST(OpenStoreTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(OpenStore("ftp://x/y").error().sqlstate, "0A000");
  EXPECT_FALSE(OpenStore(""));
  EXPECT_FALSE(OpenStore("file:relative"));
}

}  // namespace
}  // namespace tidewater::io
