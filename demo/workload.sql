-- One transaction of the order workload, for pgbench.
\set what random(1, 100)
\set customer random(1, 1000)
\set lines random(1, 4)
\set cents random(100, 99999)
\set part random(1, 1000000)
\if :what <= 40
-- A new order with its lines.
BEGIN;
INSERT INTO orders (customer_id) VALUES (:customer) RETURNING id AS new_order \gset
INSERT INTO order_lines
  SELECT :new_order, l, 'product ' || (:cents + l) % 500, 1 + l % 3, :cents / 100.0 FROM generate_series(1, :lines) l;
COMMIT;
\elif :what <= 70
-- An order goes on: new, paid, shipped.
UPDATE orders SET status = CASE status WHEN 'new' THEN 'paid' ELSE 'shipped' END
WHERE id = (SELECT id FROM orders WHERE customer_id > 0 AND id >= (SELECT last_value FROM orders_id_seq) * :part / 1000000 ORDER BY id LIMIT 1);
\elif :what <= 82
-- A line changes, the order's status in the same transaction.
BEGIN;
UPDATE order_lines SET quantity = quantity + 1, price = :cents / 100.0
WHERE line = 1 AND order_id = (SELECT id FROM orders WHERE customer_id = :customer ORDER BY id LIMIT 1);
UPDATE orders SET status = 'paid' WHERE id = (SELECT id FROM orders WHERE customer_id = :customer ORDER BY id LIMIT 1);
COMMIT;
\elif :what <= 90
-- An order is cancelled; its lines go with it.
DELETE FROM orders
WHERE id = (SELECT id FROM orders WHERE customer_id > 0 AND id >= (SELECT last_value FROM orders_id_seq) * :part / 1000000 ORDER BY id LIMIT 1);
\elif :what <= 94
-- An order gets another number; its lines follow.
UPDATE orders SET id = nextval('orders_id_seq')
WHERE id = (SELECT id FROM orders WHERE customer_id > 0 AND id >= (SELECT last_value FROM orders_id_seq) * :part / 1000000 ORDER BY id LIMIT 1);
\elif :what <= 97
-- A customer moves: every one of the customer's orders changes in the views.
UPDATE customers SET region = (ARRAY['north','east','south','west'])[1 + :cents % 4] WHERE id = :customer;
\else
-- A new customer with a first order, and a line taken back elsewhere.
BEGIN;
INSERT INTO customers VALUES (nextval('customer_ids'), 'New customer', 'north');
INSERT INTO orders (customer_id) VALUES (currval('customer_ids')) RETURNING id AS new_order \gset
INSERT INTO order_lines VALUES (:new_order, 1, 'welcome', 1, 9.99);
DELETE FROM order_lines WHERE line > 1 AND order_id = (SELECT id FROM orders WHERE customer_id = :customer ORDER BY id LIMIT 1);
COMMIT;
\endif
