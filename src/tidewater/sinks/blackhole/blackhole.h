// connector = 'blackhole': a sink that forgets. Whatever a durable checkpoint covers counts as committed at once.
#pragma once
namespace tidewater {
/// Adds the connector to the SinkRegistry.
void RegisterBlackhole();
}  // namespace tidewater
