#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <chrono>
#include <thread>
#include "tidewater/base/clock.h"
#include "tidewater/pgwire/protocol/backend.h"
#include "tidewater/pgwire/server/duckdb_session.h"
#include "tidewater/pgwire/server/server.h"

namespace tidewater::pgwire {
namespace {

using Rows = std::vector<std::vector<std::string>>;

struct Client {
  PGconn* conn = nullptr;
  std::vector<std::string> notices;
  explicit Client(const std::string& info) {
    conn = PQconnectdb(info.c_str());
    PQsetNoticeReceiver(
        conn,
        [](void* self, const PGresult* r) {
          static_cast<Client*>(self)->notices.push_back(PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
        },
        this);
  }
  ~Client() { PQfinish(conn); }
  bool ok() const { return PQstatus(conn) == CONNECTION_OK; }
  std::string error() const { return PQerrorMessage(conn); }
};

struct Answer {
  ExecStatusType status;
  std::string sqlstate, message, tag;
  Rows rows;
  std::vector<Oid> oids;
  std::vector<int> modifiers;
  explicit Answer(PGresult* r) : status(PQresultStatus(r)) {
    if (auto* s = PQresultErrorField(r, PG_DIAG_SQLSTATE)) sqlstate = s;
    if (auto* s = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY)) message = s;
    tag = PQcmdStatus(r);
    for (int c = 0; c < PQnfields(r); c++) {
      oids.push_back(PQftype(r, c));
      modifiers.push_back(PQfmod(r, c));
    }
    for (int i = 0; i < PQntuples(r); i++) {
      rows.emplace_back();
      for (int c = 0; c < PQnfields(r); c++) {
        rows.back().push_back(PQgetisnull(r, i, c) ? "NULL"
                                                   : std::string(PQgetvalue(r, i, c), size_t(PQgetlength(r, i, c))));
      }
    }
    PQclear(r);
  }
};

class ServerTest : public testing::Test {
 protected:
  void Start(ServerOptions options = {}) {
    options.address = *ListenAddress::Parse("127.0.0.1:0");
    options.failed_authentication_delay_ms = 20;
    auto started = Server::Start(std::move(options), [this](const engine::SessionOptions& o) {
      return std::make_unique<DuckdbSession>(db_, o);
    });
    ASSERT_TRUE(started) << started.error().message;
    server_ = std::move(*started);
  }
  std::string Info(const std::string& more = "") const {
    return fmt::format("host=127.0.0.1 port={} user=ada dbname=dev connect_timeout=10 {}", server_->port(), more);
  }
  static Answer Run(Client& c, const std::string& sql) { return Answer(PQexec(c.conn, sql.c_str())); }
  static Answer RunWith(Client& c, const std::string& sql, std::vector<const char*> values,
                        bool binary_result = false) {
    return Answer(
        PQexecParams(c.conn, sql.c_str(), int(values.size()), nullptr, values.data(), nullptr, nullptr, binary_result));
  }
  /// The text of one expression.
  static std::string Text(Client& c, const std::string& expression) {
    auto a = Run(c, "SELECT " + expression);
    return a.rows.empty() ? a.sqlstate + ": " + a.message : a.rows[0][0];
  }

  duckdb::DuckDB db_{nullptr};
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, SimpleQuery) {
  Start();
  Client c(Info());
  ASSERT_TRUE(c.ok()) << c.error();
  EXPECT_STREQ(PQparameterStatus(c.conn, "server_encoding"), "UTF8");
  EXPECT_GE(PQserverVersion(c.conn), 150000);
  auto a = Run(c, "SELECT 1 AS a, 'grün' AS b, NULL AS c");
  EXPECT_EQ(a.rows, (Rows{{"1", "grün", "NULL"}}));
  EXPECT_EQ(a.tag, "SELECT 1");
  EXPECT_EQ(a.oids, (std::vector<Oid>{23, 25, 23}));
  EXPECT_EQ(Run(c, "").status, PGRES_EMPTY_QUERY);
  EXPECT_EQ(Run(c, " ;; -- nothing\n").status, PGRES_EMPTY_QUERY);
  a = Run(c, "SELECT i FROM range(10000) t(i)");
  EXPECT_EQ(a.rows.size(), 10000u);
  EXPECT_EQ(a.rows[9999][0], "9999");
  EXPECT_EQ(a.tag, "SELECT 10000");
}

TEST_F(ServerTest, ErrorsKeepTheConnection) {
  Start();
  Client c(Info());
  auto a = Run(c, "SELECT * FROM nothing_here");
  EXPECT_EQ(a.sqlstate, "42P01");
  EXPECT_EQ(Run(c, "SELEC 1").sqlstate, "42601");
  EXPECT_EQ(Run(c, "SELECT '\xff'").sqlstate, "22021");
  EXPECT_EQ(Run(c, "SELECT $1::int").sqlstate, "42P02");
  // Another connection's loss is not this one's.
  EXPECT_EQ(Run(c, "UPSTREAM").sqlstate, "08006");
  EXPECT_EQ(PQstatus(c.conn), CONNECTION_OK);
  // An error after rows were sent.
  a = Run(c, "SELECT CASE WHEN i = 9000 THEN error('late') ELSE i END FROM range(10000) t(i)");
  EXPECT_EQ(a.status, PGRES_FATAL_ERROR);
  EXPECT_EQ(Text(c, "2"), "2");
}

TEST_F(ServerTest, SeveralStatementsAreOneTransaction) {
  Start();
  Client c(Info());
  EXPECT_EQ(Run(c, "CREATE TABLE t (i int PRIMARY KEY)").tag, "CREATE TABLE");
  auto a = Run(c, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2), (3); SELECT count(*) FROM t");
  EXPECT_EQ(a.rows, (Rows{{"3"}})) << a.message;
  EXPECT_EQ(Run(c, "INSERT INTO t VALUES (4); INSERT INTO t VALUES (1)").sqlstate, "23505");
  EXPECT_EQ(PQtransactionStatus(c.conn), PQTRANS_IDLE);
  EXPECT_EQ(Run(c, "SELECT count(*) FROM t").rows, (Rows{{"3"}}));
  // The position of an error counts from the start of the whole text.
  PGresult* r = PQexec(c.conn, "SELECT 'é'; POSITION 10");
  auto* position = PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION);
  EXPECT_STREQ(position ? position : "none", "22");
  PQclear(r);
  // BEGIN inside makes it the client's transaction.
  Run(c, "INSERT INTO t VALUES (5); BEGIN; INSERT INTO t VALUES (6)");
  EXPECT_EQ(PQtransactionStatus(c.conn), PQTRANS_INTRANS);
  Run(c, "ROLLBACK");
  EXPECT_EQ(Run(c, "SELECT count(*) FROM t").rows, (Rows{{"3"}}));
}

TEST_F(ServerTest, FailedTransaction) {
  Start();
  Client c(Info());
  Run(c, "BEGIN");
  EXPECT_EQ(PQtransactionStatus(c.conn), PQTRANS_INTRANS);
  Run(c, "SELECT * FROM nothing_here");
  EXPECT_EQ(PQtransactionStatus(c.conn), PQTRANS_INERROR);
  EXPECT_EQ(Run(c, "SELECT 1").sqlstate, "25P02");
  Run(c, "ROLLBACK");
  EXPECT_EQ(PQtransactionStatus(c.conn), PQTRANS_IDLE);
}

TEST_F(ServerTest, TextOfTypes) {
  Start();
  Client c(Info());
  // What PostgreSQL 15 prints for the same values (test/pgwire/against_postgres.py compares with a server).
  std::vector<std::pair<std::string, std::string>> expected = {
      {"true", "t"},
      {"(-128)::tinyint", "-128"},
      {"255::utinyint", "255"},
      {"18446744073709551615::ubigint", "18446744073709551615"},
      {"'-170141183460469231731687303715884105728'::hugeint", "-170141183460469231731687303715884105728"},
      {"1.50::decimal(10,2)", "1.50"},
      {"(-0.05)::decimal(4,2)", "-0.05"},
      {"'0.00000000000000000001'::decimal(38,20)", "0.00000000000000000001"},
      {"0::decimal(9,3)", "0.000"},
      {"0.1::double", "0.1"},
      {"1e15::double", "1e+15"},
      {"123456789012345::double", "123456789012345"},
      {"1e-5::double", "1e-05"},
      {"0.0001::double", "0.0001"},
      {"'-0'::double", "-0"},
      {"'nan'::double", "NaN"},
      {"'-inf'::double", "-Infinity"},
      {"1e6::float", "1e+06"},
      {"123456::float", "123456"},
      {"3.4028235e38::float", "3.4028235e+38"},
      {"'\\x00\\xFF'::blob", "\\x00ff"},
      {"'10110'::bit", "10110"},
      {"DATE '2024-02-29'", "2024-02-29"},
      {"DATE '0044-03-15 (BC)'", "0044-03-15 BC"},
      {"'infinity'::date", "infinity"},
      {"TIME '12:34:56.789'", "12:34:56.789"},
      {"'24:00:00'::time", "24:00:00"},
      {"'12:00:00+02:30'::timetz", "12:00:00+02:30"},
      {"TIMESTAMP '2024-01-02 03:04:05.000006'", "2024-01-02 03:04:05.000006"},
      {"TIMESTAMP '1960-01-02 03:04:05.5'", "1960-01-02 03:04:05.5"},
      {"'-infinity'::timestamp", "-infinity"},
      {"'2024-01-02 03:04:05.123456789'::timestamp_ns", "2024-01-02 03:04:05.123456789"},
      {"TIMESTAMPTZ '2024-07-01 12:00:00+02'", "2024-07-01 10:00:00+00"},
      {"INTERVAL '1 year 2 months 3 days 4 hours 5 minutes 6.7 seconds'", "1 year 2 mons 3 days 04:05:06.7"},
      {"INTERVAL '-1 month' + INTERVAL '2 days' - INTERVAL '1 hour'", "-1 mons +2 days -01:00:00"},
      {"INTERVAL '0 days'", "00:00:00"},
      {"INTERVAL '-3 days 2 hours'", "-3 days +02:00:00"},
      {"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
      {"'{\"a\":1}'::json", "{\"a\":1}"},
      {"[1, NULL, 3]", "{1,NULL,3}"},
      {"['a b', '', 'null', 'q\"u', 'x,y', 'plain']", "{\"a b\",\"\",\"null\",\"q\\\"u\",\"x,y\",plain}"},
      {"[[1,2],[3,4]]", "{{1,2},{3,4}}"},
      {"[]::int[]", "{}"},
      {"[TIMESTAMP '2024-01-02 03:04:05']", "{\"2024-01-02 03:04:05\"}"},
      {"{'a': 1, 'b': 'x\"y', 'c': [1.5, NULL], 'd': {'e': true}}",
       "{\"a\":1,\"b\":\"x\\\"y\",\"c\":[1.5,null],\"d\":{\"e\":true}}"},
      {"MAP {'k': 1}", "{\"k\":1}"},
      {"'b'::ENUM('a', 'b')", "b"},
  };
  for (auto& [sql, text] : expected) EXPECT_EQ(Text(c, sql), text) << sql;
}

TEST_F(ServerTest, TypesOfColumns) {
  Start();
  Client c(Info());
  auto a = Run(
      c,
      "SELECT 1::smallint, 1::utinyint, 1::usmallint, 1::uinteger, 1::ubigint, 1::hugeint, 1.5::decimal(12,3), now(), "
      "[1], ['a'], [1.5::decimal(5,1)], {'a': 1}, '{}'::json, [{'a': 1}], 'a'::blob, uuid()");
  EXPECT_EQ(a.oids,
            (std::vector<Oid>{21, 21, 23, 20, 1700, 1700, 1700, 1184, 1007, 1009, 1231, 114, 114, 199, 17, 2950}));
  EXPECT_EQ(a.modifiers[6], (12 << 16 | 3) + 4);
  EXPECT_EQ(a.modifiers[10], (5 << 16 | 1) + 4);
  EXPECT_EQ(a.modifiers[0], -1);
}

TEST_F(ServerTest, TimeZoneOfTheSession) {
  Start();
  Client c(Info());
  Run(c, "SET TimeZone=Europe/Berlin");
  EXPECT_STREQ(PQparameterStatus(c.conn, "TimeZone"), "Europe/Berlin");
  EXPECT_EQ(Text(c, "TIMESTAMPTZ '2024-07-01 10:00:00+00'"), "2024-07-01 12:00:00+02");
  EXPECT_EQ(Text(c, "TIMESTAMPTZ '2050-01-01 10:00:00+00'"), "2050-01-01 11:00:00+01");
  EXPECT_EQ(Text(c, "TIMESTAMPTZ '1890-01-01 10:00:00+00'"), "1890-01-01 10:53:28+00:53:28");
  // Local text of a parameter is a time of that zone, of two possible instants the later.
  EXPECT_EQ(RunWith(c, "SELECT $1::timestamptz", {"2024-07-01 12:00:00"}).rows, (Rows{{"2024-07-01 12:00:00+02"}}));
  EXPECT_EQ(RunWith(c, "SELECT $1::timestamptz", {"2024-10-27 02:30:00"}).rows, (Rows{{"2024-10-27 02:30:00+01"}}));
  Run(c, "SET TimeZone=Nowhere");
  EXPECT_EQ(Text(c, "TIMESTAMPTZ '2024-07-01 10:00:00+00'"), "2024-07-01 10:00:00+00");
  EXPECT_EQ(c.notices.size(), 1u);
}

TEST_F(ServerTest, ExtendedProtocol) {
  Start();
  Client c(Info());
  auto a = RunWith(c, "SELECT $1::int + 1, $2::text || 'x', $3::int", {"41", "y", nullptr});
  EXPECT_EQ(a.rows, (Rows{{"42", "yx", "NULL"}}));
  EXPECT_EQ(RunWith(c, "SELECT $1::int", {"abc"}).sqlstate, "22P02");
  EXPECT_EQ(RunWith(c, "SELECT $1::int", {"99999999999"}).sqlstate, "22003");
  EXPECT_EQ(RunWith(c, "SELECT $1::int", {}).sqlstate, "08P01");
  EXPECT_EQ(RunWith(c, "SELECT 1; SELECT 2", {}).sqlstate, "42601");
  EXPECT_EQ(RunWith(c, "SELECT ';'", {}).rows, (Rows{{";"}}));
  EXPECT_EQ(RunWith(c, "", {}).status, PGRES_EMPTY_QUERY);

  Answer prepared(PQprepare(c.conn, "p1", "SELECT $1::bigint * 2 AS twice", 0, nullptr));
  EXPECT_EQ(prepared.status, PGRES_COMMAND_OK);
  PGresult* described = PQdescribePrepared(c.conn, "p1");
  EXPECT_EQ(PQnparams(described), 1);
  EXPECT_EQ(PQparamtype(described, 0), 20u);
  EXPECT_STREQ(PQfname(described, 0), "twice");
  PQclear(described);
  const char* value = "21";
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(Answer(PQexecPrepared(c.conn, "p1", 1, &value, nullptr, nullptr, 0)).rows, (Rows{{"42"}}));
  }
  EXPECT_EQ(Answer(PQprepare(c.conn, "p1", "SELECT 1", 0, nullptr)).sqlstate, "42P05");
  EXPECT_EQ(Run(c, "DEALLOCATE p1").tag, "DEALLOCATE");
  EXPECT_EQ(Answer(PQexecPrepared(c.conn, "p1", 1, &value, nullptr, nullptr, 0)).sqlstate, "26000");
  Answer again(PQprepare(c.conn, "p1", "SELECT 1", 0, nullptr));
  EXPECT_EQ(RunWith(c, "DEALLOCATE ALL", {}).tag, "DEALLOCATE ALL");
  EXPECT_EQ(Answer(PQdescribePrepared(c.conn, "p1")).sqlstate, "26000");
}

TEST_F(ServerTest, ParametersAsText) {
  Start();
  Client c(Info());
  auto round = [&](const char* type, const char* text) {
    auto a = RunWith(c, fmt::format("SELECT $1::{}", type), {text});
    return a.rows.empty() ? a.sqlstate : a.rows[0][0];
  };
  EXPECT_EQ(round("boolean", "yes"), "t");
  EXPECT_EQ(round("boolean", "maybe"), "22P02");
  EXPECT_EQ(round("blob", "\\x00Ff"), "\\x00ff");
  EXPECT_EQ(round("blob", "a\\\\b\\001"), "\\x615c6201");
  EXPECT_EQ(round("blob", "\\x0"), "22P02");
  EXPECT_EQ(round("int[]", "{1,NULL, 3}"), "{1,NULL,3}");
  EXPECT_EQ(round("text[]", "{\"a,b\",\"q\\\"x\",plain,\"\"}"), "{\"a,b\",\"q\\\"x\",plain,\"\"}");
  EXPECT_EQ(round("int[][]", "{{1,2},{3,4}}"), "{{1,2},{3,4}}");
  EXPECT_EQ(round("int[]", "{1"), "22P02");
  EXPECT_EQ(round("int[]", "{a}"), "22P02");
  EXPECT_EQ(round("decimal(10,2)", "12.30"), "12.30");
  EXPECT_EQ(round("decimal(10,2)", "12.345"), "22003");
  EXPECT_EQ(round("timestamptz", "2024-01-01 00:00:00+05:30"), "2023-12-31 18:30:00+00");
  EXPECT_EQ(round("timestamptz", "nonsense"), "22P02");
  EXPECT_EQ(round("interval", "1 day 02:03:04.5"), "1 day 02:03:04.5");
  EXPECT_EQ(round("date", "2024-02-30"), "22P02");
  EXPECT_EQ(round("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  EXPECT_EQ(round("uuid", "a0eebc999c0b4ef8bb6d6bb9bd380a11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  EXPECT_EQ(round("varchar", "\xff"), "22021");
}

TEST_F(ServerTest, BinaryResultsComeBackAsBinaryParameters) {
  Start();
  Client c(Info());
  std::vector<std::string> expressions = {"true",
                                          "(-7)::smallint",
                                          "70000::int",
                                          "(-1)::bigint",
                                          "1.5::float",
                                          "(-2.25e300)::double",
                                          "12345.678::decimal(12,3)",
                                          "(-0.0001)::decimal(10,4)",
                                          "0::decimal(5,0)",
                                          "'1234567890123456789'::decimal(38,2)",
                                          "'text ü'",
                                          "'\\x00\\xFF'::blob",
                                          "DATE '1969-12-31'",
                                          "'infinity'::date",
                                          "TIME '01:02:03.000004'",
                                          "'12:00:00-03:30'::timetz",
                                          "TIMESTAMP '1999-12-31 23:59:59.999999'",
                                          "'infinity'::timestamp",
                                          "TIMESTAMPTZ '2024-07-01 12:00:00+02'",
                                          "INTERVAL '-1 month 2 days 3 seconds'",
                                          "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
                                          "'{\"a\":[1]}'::json",
                                          "'1011001110'::bit",
                                          "[1, NULL, 3]",
                                          "['a', '', NULL]",
                                          "[1.5::decimal(5,1), -2]",
                                          "[]::int[]"};
  for (auto& e : expressions) {
    auto text = Run(c, "SELECT " + e);
    auto binary = RunWith(c, "SELECT " + e, {}, true);
    ASSERT_EQ(binary.rows.size(), 1u) << e << binary.message;
    auto& bytes = binary.rows[0][0];
    Oid oid = binary.oids[0];
    EXPECT_EQ(oid, text.oids[0]);
    // Sent back with its OID: DuckDB's cast of the same value to its own type leaves it as it is.
    duckdb::Connection direct(db_);
    auto type = direct.Query("SELECT typeof(" + e + ")")->GetValue(0, 0).ToString();
    const char* value = bytes.data();
    int length = int(bytes.size()), format = 1;
    Answer back(PQexecParams(c.conn, fmt::format("SELECT $1::{}", type).c_str(), 1, &oid, &value, &length, &format, 0));
    ASSERT_EQ(back.rows.size(), 1u) << e << ": " << back.message;
    EXPECT_EQ(back.rows[0][0], text.rows[0][0]) << e;
  }
  EXPECT_EQ(RunWith(c, "SELECT [[1],[2,3]]", {}, true).sqlstate, "2202E");
  Oid oid = 23;
  const char* value = "abc";
  int length = 3, format = 1;
  EXPECT_EQ(Answer(PQexecParams(c.conn, "SELECT $1::int", 1, &oid, &value, &length, &format, 0)).sqlstate, "22P03");
}

TEST_F(ServerTest, PipelineIsOneTransaction) {
  Start();
  Client c(Info());
  Run(c, "CREATE TABLE t (i int PRIMARY KEY)");
  auto pipeline = [&](std::vector<std::string> values) {
    EXPECT_EQ(PQenterPipelineMode(c.conn), 1);
    for (auto& v : values) {
      const char* value = v.c_str();
      EXPECT_EQ(PQsendQueryParams(c.conn, "INSERT INTO t VALUES ($1::int)", 1, nullptr, &value, nullptr, nullptr, 0),
                1);
    }
    PQpipelineSync(c.conn);
    std::string outcome;
    int nulls = 0;
    while (nulls < 2) {
      PGresult* r = PQgetResult(c.conn);
      if (!r) {
        nulls++;
        continue;
      }
      nulls = 0;
      auto status = PQresultStatus(r);
      outcome += status == PGRES_COMMAND_OK         ? 'c'
                 : status == PGRES_FATAL_ERROR      ? 'e'
                 : status == PGRES_PIPELINE_ABORTED ? 'a'
                                                    : 's';
      PQclear(r);
      if (status == PGRES_PIPELINE_SYNC) break;
    }
    PQexitPipelineMode(c.conn);
    return outcome;
  };
  EXPECT_EQ(pipeline({"1", "2", "3"}), "cccs");
  EXPECT_EQ(pipeline({"4", "1", "5"}), "ceas");
  EXPECT_EQ(PQtransactionStatus(c.conn), PQTRANS_IDLE);
  EXPECT_EQ(Run(c, "SELECT count(*) FROM t").rows, (Rows{{"3"}}));
}

TEST_F(ServerTest, PortalsFetchInParts) {
  Start();
  // libpq cannot limit rows of a portal: speak the protocol.
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(server_->port());
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  std::string startup;
  PutInt32(startup, 3 << 16);
  for (auto s : {"user", "ada"}) PutCString(startup, s);
  startup.push_back('\0');
  std::string out;
  PutInt32(out, int32_t(startup.size() + 4));
  out += startup;
  auto message = [&](char type, const std::string& body) {
    out.push_back(type);
    PutInt32(out, int32_t(body.size() + 4));
    out += body;
  };
  using namespace std::string_literals;
  message('P', "\0SELECT i FROM range(5) t(i)\0\0\0"s);
  message('B', "\0\0\0\0\0\0\0\0"s);
  for (int i = 0; i < 3; i++) message('E', "\0\0\0\0\2"s);
  message('E', "\0\0\0\0\2"s);
  message('S', "");
  message('E', "\0\0\0\0\0"s);  // gone with its transaction
  message('S', "");
  message('!', "");
  ASSERT_EQ(send(fd, out.data(), out.size(), 0), ssize_t(out.size()));
  std::string in(100'000, '\0');
  size_t got = 0;
  while (true) {
    auto n = recv(fd, in.data() + got, in.size() - got, 0);
    if (n <= 0) break;
    got += size_t(n);
  }
  close(fd);
  in.resize(got);
  std::string types;
  for (size_t at = 0; at < in.size();) {
    types.push_back(in[at]);
    uint32_t length;
    memcpy(&length, in.data() + at + 1, 4);
    at += 1 + ntohl(length);
  }
  types = types.substr(types.find('Z'));
  EXPECT_EQ(types, "Z12DDsDDsDCCZEZE");
}

TEST_F(ServerTest, CancelAndTimeout) {
  Start();
  Client c(Info());
  std::string slow = "SELECT sum(a.i * b.i % 7) FROM range(1000000) a(i), range(1000000) b(i)";
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    auto* cancel = PQgetCancel(c.conn);
    char error[256];
    EXPECT_EQ(PQcancel(cancel, error, sizeof error), 1) << error;
    PQfreeCancel(cancel);
  });
  auto a = Run(c, slow);
  canceller.join();
  EXPECT_EQ(a.sqlstate, "57014");
  EXPECT_EQ(Text(c, "1"), "1");
  Run(c, "SET statement_timeout=100ms");
  a = Run(c, slow);
  EXPECT_EQ(a.sqlstate, "57014");
  EXPECT_EQ(a.message, "canceling statement due to statement timeout");
  EXPECT_EQ(Text(c, "1"), "1");
}

TEST_F(ServerTest, StopTellsClients) {
  Start();
  Client c(Info());
  ASSERT_TRUE(c.ok());
  std::thread runs([&] {
    auto a = Run(c, "SELECT sum(a.i * b.i % 7) FROM range(1000000) a(i), range(1000000) b(i)");
    EXPECT_EQ(a.sqlstate.substr(0, 2), "57");
  });
  Client idle(Info());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  auto begin = MonotonicMicros();
  server_->Stop();
  EXPECT_LT(MonotonicMicros() - begin, 5'000'000);
  runs.join();
  EXPECT_EQ(Run(idle, "SELECT 1").status, PGRES_FATAL_ERROR);
  EXPECT_EQ(PQstatus(idle.conn), CONNECTION_BAD);
}

TEST_F(ServerTest, NoticesAndSettings) {
  Start();
  Client c(Info("options='-c my.setting=a\\ b -c bad=1' application_name=tests"));
  ASSERT_TRUE(c.ok()) << c.error();
  EXPECT_STREQ(PQparameterStatus(c.conn, "application_name"), "tests");
  EXPECT_EQ(Run(c, "NOTICE hello").tag, "NOTICE");
  EXPECT_EQ(c.notices, (std::vector<std::string>{"hello"}));
}

TEST_F(ServerTest, Passwords) {
  ServerOptions options;
  options.verifier = *ScramVerifier::FromPassword(Secret("s3cret"));
  Start(options);
  EXPECT_TRUE(Client(Info("password=s3cret")).ok());
  Client wrong(Info("password=wrong"));
  EXPECT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().find("password authentication failed"), std::string::npos) << wrong.error();
  EXPECT_FALSE(Client(Info("password=''")).ok());
  EXPECT_FALSE(Client(Info("password=s3cret channel_binding=require")).ok());
}

TEST_F(ServerTest, BeyondLoopbackOnlyWithPassword) {
  ServerOptions options;
  options.address = *ListenAddress::Parse("0.0.0.0:0");
  auto refused = Server::Start(options, {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().hint.find("--password-file"), std::string::npos);
  for (auto bad : {"", "4566", ":4566", "127.0.0.1:", "127.0.0.1:x", "::1:4566", "127.0.0.1:99999"}) {
    EXPECT_FALSE(ListenAddress::Parse(bad)) << bad;
  }
  EXPECT_TRUE(ListenAddress::Parse("[::1]:4566")->loopback_only());
  EXPECT_TRUE(ListenAddress::Parse("localhost:4566")->loopback_only());
  EXPECT_FALSE(ListenAddress::Parse("[::]:4566")->loopback_only());
}

TEST_F(ServerTest, TooManyClients) {
  ServerOptions options;
  options.connections_max = 2;
  Start(options);
  Client a(Info()), b(Info()), third(Info());
  EXPECT_TRUE(a.ok() && b.ok());
  EXPECT_FALSE(third.ok());
  EXPECT_NE(third.error().find("too many clients"), std::string::npos);
}

TEST_F(ServerTest, Tls) {
  auto dir = std::string(testing::TempDir()) + "/tidewater_tls_" + std::to_string(getpid());
  ASSERT_EQ(
      system(
          fmt::format("mkdir -p {0} && openssl req -x509 -newkey rsa:2048 -nodes -keyout {0}/key -out {0}/cert -days 2 "
                      "-subj /CN=localhost 2>/dev/null",
                      dir)
              .c_str()),
      0);
  ServerOptions options;
  options.tls_certificate_file = dir + "/cert";
  options.tls_key_file = dir + "/key";
  options.verifier = *ScramVerifier::FromPassword(Secret("s3cret"));
  Start(options);
  Client c(Info("sslmode=verify-ca password=s3cret sslrootcert=" + dir + "/cert"));
  ASSERT_TRUE(c.ok()) << c.error();
  EXPECT_EQ(PQsslInUse(c.conn), 1);
  EXPECT_EQ(Run(c, "SELECT repeat('x', 1000) FROM range(20000)").rows.size(), 20000u);
  EXPECT_TRUE(Client(Info("sslmode=disable password=s3cret")).ok());
  options.tls_key_file = dir + "/cert";
  EXPECT_FALSE(Server::Start(options, {}));
  std::ignore = system(("rm -r " + dir).c_str());
}

}  // namespace
}  // namespace tidewater::pgwire
