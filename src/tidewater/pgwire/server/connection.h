// One client connection from its first byte to its last.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>
#include "tidewater/engine/session.h"
#include "tidewater/pgwire/protocol/frontend.h"
#include "tidewater/pgwire/protocol/scram.h"
#include "tidewater/pgwire/server/server.h"
#include "tidewater/pgwire/server/statement_guard.h"
#include "tidewater/pgwire/server/time_zone.h"
#include "tidewater/pgwire/server/transport.h"

namespace tidewater::pgwire {

/// What connections share. Outlives them.
struct ServerContext {
  ServerOptions options;
  SessionFactory sessions;
  ssl_ctx_st* tls = nullptr;
  CancelRegistry cancels;
  StatementTimer timer;
  std::atomic<size_t> sessions_open{0};
};

/// Owned by its thread.
class Connection {
 public:
  Connection(ServerContext& context, int socket_fd, int stop_fd) : context_(context), transport_(socket_fd, stop_fd) {}
  ~Connection();
  void Run();

 private:
  struct Prepared {
    std::string sql;
    std::unique_ptr<engine::Statement> statement;  ///< null for DEALLOCATE of a statement of this protocol
    std::vector<uint32_t> oids;                    ///< of the parameters, as told to the client
    std::string tag;
    std::string deallocate;  ///< a name, or "*" for all
  };
  struct Portal {
    std::shared_ptr<Prepared> prepared;
    duckdb::vector<duckdb::Value> values;
    std::vector<int16_t> formats;
    std::unique_ptr<engine::Cursor> cursor;
    std::unique_ptr<DataChunk> chunk;
    size_t next_row = 0;
    bool done = false;
  };

  // Opening.
  Result<bool> Open();  ///< false: nothing more to do (a cancel request, a closed connection)
  Status Authenticate();
  Status StartSession(const Startup& startup);
  void ReportSettings(bool all);

  // Messages.
  Result<Frame> Receive(bool typed, size_t body_max, int64_t deadline_us);
  Result<char> PeekType();
  Status FlushOut();
  Status FlushIfLarge();
  Status Serve();
  Status OnQuery(const std::string& sql);
  Status OnParse(const Parse& message);
  Status OnBind(const Bind& message);
  Status OnDescribe(const Describe& message);
  Status OnExecute(const Execute& message);
  Status OnClose(const Close& message);
  Status OnSync();

  // Statements. An error ends the connection when the transport is gone or it is 57P01; others are the client's to
  // read.
  Result<std::shared_ptr<Prepared>> Prepare(const std::string& sql, const std::vector<uint32_t>& oids);
  Status RunSimple(const std::string& sql, bool batch);
  Status ExecutePortal(Portal& portal, int32_t rows_max, bool describe, bool& suspended);
  Status FetchRows(Portal& portal, int32_t rows_max, bool& suspended);
  Status JoinImplicit(const std::string& tag, bool more_follow, bool& already_done);
  Status EndImplicit();
  Status RunUtility(const char* sql);
  Status Deallocate(const std::string& name);
  Status Guarded(const std::function<Status()>& work);
  void OnError(Error error);
  void PutNotices();
  void AfterStatement(const std::string& tag);
  const TimeZone& Zone();
  void PutReady();

  ServerContext& context_;
  Transport transport_;
  FrameReader reader_;
  std::string out_;

  std::unique_ptr<engine::Session> session_;
  CancelRegistry::Key key_;
  bool registered_ = false;
  RunningStatement running_;
  std::map<std::string, std::shared_ptr<Prepared>> statements_;
  std::map<std::string, Portal> portals_;
  /// The open transaction is the protocol's own: it ends with the simple query or with Sync.
  bool implicit_ = false;
  bool skip_to_sync_ = false;
  std::map<std::string, std::string> reported_;
  std::string zone_name_;
  std::shared_ptr<const TimeZone> zone_ = TimeZone::Utc();
};

}  // namespace tidewater::pgwire
