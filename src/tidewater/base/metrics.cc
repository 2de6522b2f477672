#include "tidewater/base/metrics.h"
#include <prometheus/text_serializer.h>

namespace tidewater::metrics {
prometheus::Registry& Registry() {
  static auto* registry = new prometheus::Registry(prometheus::Registry::InsertBehavior::Merge);
  return *registry;
}
prometheus::Counter& Counter(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(Registry()).Add(labels);
}
prometheus::Gauge& Gauge(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(Registry()).Add(labels);
}
prometheus::Histogram& Seconds(const std::string& name, const std::string& help, const Labels& labels) {
  static const prometheus::Histogram::BucketBoundaries buckets{0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1,
                                                               0.3,    1,      3,     10,    30,   60};
  return prometheus::BuildHistogram().Name(name).Help(help).Register(Registry()).Add(labels, buckets);
}
std::string Render() { return prometheus::TextSerializer().Serialize(Registry().Collect()); }
}  // namespace tidewater::metrics
