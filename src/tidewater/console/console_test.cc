#include <gtest/gtest.h>
#include <httplib.h>
#include "tidewater/base/metrics.h"
#include "tidewater/console/console.h"

namespace tidewater::console {
namespace {

ConsoleOptions Options() {
  ConsoleOptions options;
  options.address = *ListenAddress::Parse("127.0.0.1:0");
  return options;
}

TEST(Console, MetricsAndHealth) {
  metrics::Counter("console_test_total", "what a test counts").Increment(3);
  auto options = Options();
  bool healthy = true;
  options.health = [&]() -> Status {
    if (healthy) return {};
    return std::unexpected(EnvError(ErrorKind::kIo, "the disk is full"));
  };
  auto console = *Console::Start(options);
  httplib::Client client("127.0.0.1", console->port());
  auto metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->status, 200);
  EXPECT_NE(metrics->body.find("console_test_total 3"), std::string::npos);
  EXPECT_EQ(client.Get("/healthz")->body, "ok\n");
  healthy = false;
  EXPECT_EQ(client.Get("/healthz")->status, 503);
  EXPECT_EQ(client.Get("/iceberg/v1/config")->status, 404);
  EXPECT_EQ(client.Get("/nothing")->status, 404);
}

TEST(Console, HandsCatalogRequestsOver) {
  auto options = Options();
  options.catalog = [](const iceberg::RestRequest& r) -> iceberg::RestResponse {
    if (r.method == "DELETE") return {204, ""};
    return {r.method == "POST" ? 409 : 200, fmt::format("{} {} {} {}", r.method, r.target, r.body, r.authorization)};
  };
  auto console = *Console::Start(options);
  httplib::Client client("127.0.0.1", console->port());
  EXPECT_EQ(client.Get("/iceberg/v1/namespaces/a%1Fb/tables?pageSize=10", {{"Authorization", "Bearer x"}})->body,
            "GET /v1/namespaces/a%1Fb/tables?pageSize=10  Bearer x");
  auto post = client.Post("/iceberg/v1/namespaces", "{}", "application/json");
  EXPECT_EQ(post->status, 409);
  EXPECT_EQ(post->body, "POST /v1/namespaces {} ");
  EXPECT_EQ(client.Delete("/iceberg/v1/namespaces/a")->status, 204);
  auto head = client.Head("/iceberg/v1/namespaces/a");
  EXPECT_EQ(head->status, 200);
  EXPECT_EQ(head->body, "");
}

TEST(Console, Token) {
  auto options = Options();
  options.token = Secret("letmein");
  auto console = *Console::Start(options);
  httplib::Client client("127.0.0.1", console->port());
  EXPECT_EQ(client.Get("/metrics")->status, 401);
  EXPECT_EQ(client.Get("/metrics", {{"Authorization", "Bearer letmeiN"}})->status, 401);
  EXPECT_EQ(client.Get("/metrics", {{"Authorization", "Bearer letmein"}})->status, 200);
  EXPECT_EQ(client.Get("/healthz")->status, 200);
}

TEST(Console, BeyondLoopbackOnlyWithToken) {
  auto options = Options();
  options.address = *ListenAddress::Parse("0.0.0.0:0");
  EXPECT_FALSE(Console::Start(options));
}

TEST(Console, TakenPortIsAnError) {
  auto first = *Console::Start(Options());
  auto options = Options();
  options.address = *ListenAddress::Parse(fmt::format("127.0.0.1:{}", first->port()));
  auto second = Console::Start(options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().sqlstate, "58030");
}

}  // namespace
}  // namespace tidewater::console
