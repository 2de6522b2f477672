// Objects in memory: for tests, and for pipelines that need not survive the process.
#pragma once
#include "tidewater/io/object_store.h"

namespace tidewater::io {
std::shared_ptr<ObjectStore> NewMemoryStore();
}  // namespace tidewater::io
