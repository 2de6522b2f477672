// connector = 'nexmark': the events of the Nexmark benchmark as an append-only stream of one of the three tables.
#pragma once
namespace tidewater {
/// Adds the connector to the SourceRegistry.
void RegisterNexmark();
}  // namespace tidewater
