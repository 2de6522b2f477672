// Logging: one logger to stderr, structured enough to grep ("key=value"). Never pass a Secret's clear text.
#pragma once
#include <spdlog/spdlog.h>
namespace tidewater::log {
using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;
}  // namespace tidewater::log
