-- The shop in PostgreSQL: customers, orders, order lines.
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region text NOT NULL);
CREATE TABLE orders (
  id bigserial PRIMARY KEY,
  customer_id int NOT NULL REFERENCES customers,
  status text NOT NULL DEFAULT 'new',
  placed timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE order_lines (
  order_id bigint NOT NULL REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE,
  line int NOT NULL,
  product text NOT NULL,
  quantity int NOT NULL,
  price numeric(10,2) NOT NULL,
  PRIMARY KEY (order_id, line)
);
CREATE INDEX ON orders (customer_id);
CREATE SEQUENCE customer_ids START 1001;
-- Customer 0 places the orders by which demo.py measures freshness; the workload leaves them alone.
INSERT INTO customers VALUES (0, 'probe', 'probe');
INSERT INTO customers SELECT i, 'Customer ' || i, (ARRAY['north','east','south','west'])[1 + i % 4] FROM generate_series(1, 1000) i;
INSERT INTO orders (customer_id, status)
  SELECT 1 + i % 1000, (ARRAY['new','paid','shipped'])[1 + i % 3] FROM generate_series(1, 20000) i;
INSERT INTO order_lines
  SELECT o.id, l, 'product ' || (o.id * 7 + l) % 500, 1 + (o.id + l) % 5, ((o.id * 13 + l * 101) % 9900 + 100) / 100.0
  FROM orders o, generate_series(1, 3) l WHERE l <= 1 + o.id % 3;
