// One registry of Prometheus metrics for the process. Names follow the Prometheus conventions (base units, _total).
#pragma once
#include <map>
#include <string>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace tidewater::metrics {
using Labels = std::map<std::string, std::string>;
prometheus::Registry& Registry();
/// The same name and labels give the same object; references stay valid for the life of the process.
prometheus::Counter& Counter(const std::string& name, const std::string& help, const Labels& labels = {});
prometheus::Gauge& Gauge(const std::string& name, const std::string& help, const Labels& labels = {});
/// Buckets in seconds from 100 µs to 60 s.
prometheus::Histogram& Seconds(const std::string& name, const std::string& help, const Labels& labels = {});
/// The text exposition format of everything registered.
std::string Render();
}  // namespace tidewater::metrics
