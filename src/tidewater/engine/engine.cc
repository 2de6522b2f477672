#include "tidewater/engine/engine.h"
#include "tidewater/engine/core.h"

namespace tidewater::engine {

Engine::Engine(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Engine::~Engine() { Stop(); }

Result<std::unique_ptr<Engine>> Engine::Open(EngineOptions options) {
  auto core = std::make_unique<Core>(std::move(options));
  TW_TRY(core->Open());
  return std::unique_ptr<Engine>(new Engine(std::move(core)));
}
Status Engine::Start() { return core_->Start(); }
void Engine::Stop() { core_->Stop(true); }
void Engine::Abandon() { core_->Stop(false); }
EngineReport Engine::Report() { return core_->Report(); }

}  // namespace tidewater::engine
