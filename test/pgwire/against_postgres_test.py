"""Values on the wire against a real PostgreSQL server: type OID, typmod, text and binary form of the same expressions.

    against_postgres_test.py --binary build/release/tidewater
"""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import lib  # noqa: E402
from psycopg import pq  # noqa: E402

# SQL that means the same to both. A typmod is compared where the type carries one.
EXPRESSIONS = """
true
false
(-32768)::smallint
2147483647::integer
(-9223372036854775808)::bigint
0.1::real
3.4028235e38::real
1e-45::real
123456::real
1234567::real
0.1::double precision
1e15::double precision
123456789012345::double precision
1e-5::double precision
0.0001::double precision
1.7976931348623157e308::double precision
5e-324::double precision
'NaN'::double precision
'Infinity'::double precision
'-Infinity'::real
'-0'::double precision
0.1::double precision + 0.2::double precision
1.50::numeric(10,2)
(-0.05)::numeric(4,2)
0::numeric(9,3)
99999.9999::numeric(12,4)
10000::numeric(20,0)
0.00010002::numeric(20,10)
12345678901234567890.123456789::numeric(38,9)
''::text
'grün 冰山 🧊'::text
date '2024-02-29'
date '1969-12-31'
date '0001-01-01'
date '9999-12-31'
'infinity'::date
'-infinity'::date
time '00:00:00'
time '23:59:59.999999'
time '12:34:56.7'
timestamp '2024-01-02 03:04:05'
timestamp '1999-12-31 23:59:59.999999'
timestamp '1960-01-02 03:04:05.000001'
'infinity'::timestamp
timestamptz '2024-07-01 12:00:00+02'
timestamptz '1900-01-01 00:00:00+00'
'infinity'::timestamptz
interval '1 year 2 months 3 days 4 hours 5 minutes 6.7 seconds'
interval '0 seconds'
interval '-1 month 2 days'
interval '-3 days 2 hours'
interval '1 day'
interval '1 month'
interval '100 hours'
interval '-1 second'
interval '-0.000001 second'
'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid
NULL::integer
NULL::text
ARRAY[1, NULL, 3]::integer[]
ARRAY['a b', '', 'null', 'x,y', 'plain', NULL, '{}', 'back\\slash']::text[]
ARRAY[1.50, -2]::numeric(5,2)[]
ARRAY[true, false]
ARRAY[date '2024-01-01', NULL]
ARRAY[timestamp '2024-01-01 01:02:03']
ARRAY[]::integer[]
""".strip().splitlines()
ZONED = ["timestamptz '2024-07-01 12:00:00+00'", "timestamptz '2024-01-01 12:00:00+00'", "timestamptz '2060-07-01 12:00:00+00'",
         "timestamptz '1850-07-01 12:00:00+00'", "timestamptz '2024-10-27 00:59:59.5+00'", "timestamptz '2024-10-27 01:00:00+00'"]


def ask(connection, sql, binary, parameter=None):
    values = None if parameter is None else [parameter.encode()]
    result = connection.pgconn.exec_params(sql.encode(), values, result_format=binary)
    if result.status != pq.ExecStatus.TUPLES_OK:
        return ("error", result.error_message.decode(errors="replace").strip())
    return (result.ftype(0), result.fmod(0), result.fsize(0), result.get_value(0, 0))


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    args = parser.parse_args()
    pg = lib.Postgres().start().connect()
    tw = lib.Tidewater(args.binary).start().connect()
    wrong = 0

    def same(sql, parameter=None):
        nonlocal wrong
        for binary in (0, 1):
            expected, got = ask(pg, sql, binary, parameter), ask(tw, sql, binary, parameter)
            if expected != got:
                wrong += 1
                print(f"DIFFERS {sql} ({'binary' if binary else 'text'}): PostgreSQL {expected}, Tidewater {got}", flush=True)

    for expression in EXPRESSIONS:
        same("SELECT " + expression)
    for zone in ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"):
        for c in (pg, tw):
            c.execute(f"SET TimeZone = '{zone}'")
        for expression in ZONED:
            same("SELECT " + expression)
        # A parameter without an offset is local time of the session: also in a gap and in an hour that comes twice.
        for local in ("2024-07-01 12:00:00", "2024-10-27 02:30:00", "2024-03-31 02:30:00", "2024-11-03 01:30:00"):
            same("SELECT $1::timestamptz", local)
    print(f"{len(EXPRESSIONS) + 5 * (len(ZONED) + 4)} expressions in text and binary, {wrong} differences", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    lib.main(run)
