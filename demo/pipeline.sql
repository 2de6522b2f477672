-- From PostgreSQL to a view and to Iceberg. Run by psql; :pg_port and :pg_user say where PostgreSQL is.
CREATE SOURCE shop WITH (
  connector = 'postgres-cdc', hostname = '127.0.0.1', port = :'pg_port', username = :'pg_user', password = :'pg_password',
  database.name = 'postgres', slot.name = 'tidewater_demo', publication.name = 'tidewater_demo'
);
CREATE TABLE customers (*) FROM shop TABLE 'public.customers';
CREATE TABLE orders (*) FROM shop TABLE 'public.orders';
CREATE TABLE order_lines (*) FROM shop TABLE 'public.order_lines';

CREATE MATERIALIZED VIEW order_totals AS
SELECT o.id AS order_id, c.name AS customer, c.region, o.status,
       count(l.line) AS lines, sum(l.quantity * l.price) AS total, max(l.price) AS dearest
FROM orders o
JOIN customers c ON o.customer_id = c.id
LEFT JOIN order_lines l ON l.order_id = o.id
GROUP BY o.id, c.name, c.region, o.status;

CREATE MATERIALIZED VIEW revenue AS
SELECT region, status, count(*) AS orders, sum(total) AS revenue, min(total) AS smallest, max(total) AS largest
FROM order_totals
GROUP BY region, status;

CREATE SINK order_totals_lake FROM order_totals WITH (
  connector = 'iceberg', type = 'upsert', primary_key = 'order_id', database.name = 'shop', table.name = 'order_totals',
  create_table_if_not_exists = 'true', commit_checkpoint_interval = 1
);
