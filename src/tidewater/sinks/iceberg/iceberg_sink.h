// Connector 'iceberg': deltas of a view into an Iceberg table, exactly once.
//
// Commit N holds whole checkpoints. Its snapshot carries the stamp (sink, generation, checkpoint); the last stamp also
// stands in a table property, because snapshots expire. Whatever happens to a commit request, the table says whether it
// counted.
#pragma once
#include <functional>
#include <memory>
#include "tidewater/iceberg/catalog.h"
#include "tidewater/sinks/api/sink.h"
#include "tidewater/sinks/iceberg/options.h"

namespace tidewater {

/// Adds the connector to the registry. Called by the binary's main.
void RegisterIcebergSink();

/// Opens the catalog of a sink; called on the sink's thread at every (re)connection.
using CatalogOpener =
    std::function<Result<std::shared_ptr<iceberg::Catalog>>(const IcebergSinkConfig&, const std::string& state_dir)>;
Result<std::shared_ptr<iceberg::Catalog>> OpenSinkCatalog(const IcebergSinkConfig& config,
                                                          const std::string& state_dir);

/// `open` other than OpenSinkCatalog is for tests.
Result<std::unique_ptr<Sink>> MakeIcebergSink(SinkOptions options, CatalogOpener open = OpenSinkCatalog);

/// Snapshot summary of a commit by a sink.
inline constexpr char kStampSink[] = "tidewater.sink-id";
inline constexpr char kStampGeneration[] = "tidewater.generation";
inline constexpr char kStampCheckpoint[] = "tidewater.checkpoint";
/// Table property "tidewater.sink.UUID" = "GENERATION:CHECKPOINT", of the last commit.
inline constexpr char kStampProperty[] = "tidewater.sink.";

/// The newest commit of a sink in a table.
struct SinkStamp {
  uint64_t generation = 0;
  CheckpointId checkpoint = 0;
  int64_t snapshot_id = 0;
};
std::optional<SinkStamp> FindStamp(const iceberg::TableMetadata& metadata, const std::string& uuid);

}  // namespace tidewater
