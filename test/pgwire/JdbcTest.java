import java.math.BigDecimal;
import java.sql.*;
import java.util.Properties;

/** The PostgreSQL JDBC driver against the server: statements, server-side prepares, fetch size, batches, metadata. */
public class JdbcTest {
  static void expect(Object got, Object wanted, String what) {
    if (!String.valueOf(got).equals(String.valueOf(wanted))) throw new AssertionError(what + ": got " + got + ", wanted " + wanted);
    System.out.println("ok: " + what);
  }

  public static void main(String[] args) throws Exception {
    Properties p = new Properties();
    p.setProperty("user", "tidewater");
    p.setProperty("prepareThreshold", "2");
    try (Connection c = DriverManager.getConnection(args[0], p)) {
      try (Statement s = c.createStatement()) {
        s.execute("CREATE TABLE jdbc_rows (id bigint PRIMARY KEY, name varchar, price numeric(12,2), created timestamp, ok boolean)");
      }
      try (PreparedStatement s = c.prepareStatement("INSERT INTO jdbc_rows VALUES (?, ?, ?, ?, ?)")) {
        for (int i = 0; i < 1000; i++) {
          s.setLong(1, i);
          s.setString(2, "row " + i);
          s.setBigDecimal(3, new BigDecimal(i).movePointLeft(2));
          s.setTimestamp(4, Timestamp.valueOf("2024-01-02 03:04:05.678"));
          s.setBoolean(5, i % 2 == 0);
          s.addBatch();
        }
        int total = 0;
        for (int n : s.executeBatch()) total += n;
        expect(total, 1000, "a batch of inserts");
      }
      try (PreparedStatement s = c.prepareStatement("SELECT name, price, created, ok FROM jdbc_rows WHERE id = ?")) {
        for (int i = 0; i < 10; i++) {  // binary from the second run on
          s.setLong(1, 123);
          try (ResultSet r = s.executeQuery()) {
            r.next();
            expect(r.getString(1) + "|" + r.getBigDecimal(2) + "|" + r.getTimestamp(3) + "|" + r.getBoolean(4),
                "row 123|1.23|2024-01-02 03:04:05.678|false", "prepared run " + i);
          }
        }
      }
      c.setAutoCommit(false);
      try (Statement s = c.createStatement()) {
        s.setFetchSize(100);
        int n = 0;
        try (ResultSet r = s.executeQuery("SELECT * FROM jdbc_rows")) {
          while (r.next()) n++;
        }
        expect(n, 1000, "rows in portions of 100");
        expect(s.executeUpdate("DELETE FROM jdbc_rows WHERE id < 10"), 10, "DELETE in a transaction");
        c.rollback();
        try (ResultSet r = s.executeQuery("SELECT count(*) FROM jdbc_rows")) {
          r.next();
          expect(r.getLong(1), 1000, "taken back by rollback");
        }
        c.commit();
      }
      c.setAutoCommit(true);
      try (Statement s = c.createStatement()) {
        s.executeQuery("SELECT * FROM nothing_here");
        throw new AssertionError("no error");
      } catch (SQLException e) {
        expect(e.getSQLState(), "42P01", "an unknown table: " + e.getMessage().split("\n")[0]);
      }
      try (ResultSet r = c.getMetaData().getTables(null, "public", "jdbc%", new String[] {"TABLE"})) {
        r.next();
        expect(r.getString("TABLE_NAME"), "jdbc_rows", "getTables");
      }
      try (ResultSet r = c.getMetaData().getColumns(null, "public", "jdbc_rows", "%")) {
        StringBuilder names = new StringBuilder();
        while (r.next()) names.append(r.getString("COLUMN_NAME")).append(' ');
        expect(names.toString().trim(), "id name price created ok", "getColumns");
      }
      try (Statement s = c.createStatement()) {
        s.execute("CREATE TABLE jdbc_pairs (note varchar, b bigint, a bigint, PRIMARY KEY (a, b))");
      }
      try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "jdbc_pairs")) {
        StringBuilder keys = new StringBuilder();
        while (r.next()) keys.append(r.getString("COLUMN_NAME")).append(r.getInt("KEY_SEQ")).append(' ').append(r.getString("PK_NAME")).append(' ');
        expect(keys.toString().trim(), "a1 jdbc_pairs_pkey b2 jdbc_pairs_pkey", "getPrimaryKeys");
      }
    }
  }
}
