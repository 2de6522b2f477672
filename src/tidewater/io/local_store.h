// Objects as files under a folder.
#pragma once
#include "tidewater/io/object_store.h"

namespace tidewater::io {

/// Opens the store at `folder`, which is created when missing. New objects are written under ROOT/.tmp and then renamed
/// or linked to their name; List does not show that folder, and what a crash left there goes at a later Open.
Result<std::shared_ptr<ObjectStore>> OpenLocalStore(const std::string& folder);

/// Makes the entries of a folder durable.
Status SyncFolder(const std::string& folder);

}  // namespace tidewater::io
