"""The linter of the portable subset: our queries pass, what engines read differently is refused with a way out."""

from pathlib import Path

import pytest

from tests.portable_sql import Problem, main, problems, query_files

GOOD = """
-- Services with a late deployment.
WITH late AS (
    SELECT d.service AS service, max(us_between(d.created_at, d.finished_at)) AS us, local_day(d.created_at) AS day
    FROM service_deployments AS d
    CROSS JOIN params
    LEFT JOIN known_services AS k ON k.service = d.service AND k.service <> ''
    WHERE d.created_at <= params.now AND k.service IS NOT NULL AND d.outcome IN ('success', 'failure')
    GROUP BY d.service, d.created_at
    HAVING count(*) > 1
)
SELECT DISTINCT service, CAST(us / 1e6 AS DOUBLE) AS seconds, CAST(NULL AS String) AS note, 1.5e0 AS factor,
       nth(sort_array(collect_list(us)), 1) AS least_us,
       row_number() OVER (PARTITION BY service ORDER BY us DESC) AS place
FROM late
UNION ALL
SELECT '' AS service, -1e0 AS seconds, 'attempt ' || CAST(n AS String) AS note, 0e0 AS factor, 0 AS least_us,
       1 AS place
FROM (SELECT count(DISTINCT run_id) AS n FROM run_attempts) AS counted
"""

# Each with what the message has to name.
BAD = {
    "SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1": "QUALIFY",
    "SELECT t.a AS a FROM t ASOF LEFT JOIN u ON u.a = t.a AND u.b <= t.b": "ASOF",
    "SELECT t.a AS a FROM t ANTI JOIN u ON u.a = t.a": "ANTI JOIN",
    "SELECT t.a AS a FROM t SEMI JOIN u ON u.a = t.a": "SEMI JOIN",
    "SELECT t.a AS a FROM t RIGHT JOIN u ON u.a = t.a": "RIGHT JOIN",
    "SELECT t.a AS a FROM t FULL JOIN u ON u.a = t.a": "FULL JOIN",
    "SELECT t.a AS a FROM t NATURAL JOIN u": "NATURAL JOIN",
    "SELECT t.a AS a FROM t JOIN u USING (a)": "USING",
    "SELECT t.a AS a FROM t, u": "a comma between tables",
    "SELECT t.a AS a FROM t LEFT JOIN u ON u.a > t.a": "LEFT JOIN without an equality",
    "SELECT t.a AS a FROM t JOIN LATERAL (SELECT 1 AS b) AS u ON true": "LATERAL",
    "SELECT a, count(*) AS n FROM t GROUP BY ALL": "GROUP BY ALL",
    "SELECT a, count(*) AS n FROM t GROUP BY 1": "GROUP BY a number",
    "SELECT a::BIGINT AS a FROM t": "::",
    "SELECT CAST(a AS INTEGER) AS a FROM t": "INT",
    "SELECT CAST(a AS VARCHAR) AS a FROM t": "VARCHAR",
    "SELECT CAST(a AS STRING) AS a FROM t": "STRING",
    "SELECT CAST(a AS TIMESTAMPTZ) AS a FROM t": "TIMESTAMPTZ",
    "SELECT TRY_CAST(a AS BIGINT) AS a FROM t": "TRY_CAST",
    "SELECT sum(a) FILTER (WHERE b) AS a FROM t": "FILTER",
    "SELECT list_transform(a, lambda x: x + 1) AS a FROM t": "a lambda",
    "SELECT unnest(a) AS a FROM t": "unnest",
    "SELECT u.a AS a FROM t CROSS JOIN unnest(t.a) AS u(a)": "unnest",
    "SELECT a IS NOT DISTINCT FROM b AS a FROM t": "IS NOT DISTINCT FROM",
    "SELECT a // 2 AS a FROM t": "//",
    "SELECT a % 2 AS a FROM t": "%",
    "SELECT 1.0 * a AS a FROM t": "1.0",
    "SELECT date_trunc('quarter', a) AS a FROM t": "date_trunc",
    "SELECT year(a) AS a FROM t": "year()",
    "SELECT extract(year FROM a) AS a FROM t": "extract",
    "SELECT a - INTERVAL 1 DAY AS a FROM t": "an interval",
    "SELECT epoch_us(a) AS a FROM t": "epoch_us()",
    "SELECT ifnull(a, 0) AS a FROM t": "ifnull()",
    "SELECT if(a, 1, 0) AS a FROM t": "if()",
    "SELECT median(a) AS a FROM t": "median()",
    "SELECT quantile_cont(a, 0.5e0) AS a FROM t": "quantile_cont()",
    "SELECT arg_min(a, b) AS a FROM t": "arg_min",
    "SELECT a[1] AS a FROM t": "[…]",
    "SELECT [1, 2] AS a FROM t": "a list",
    "SELECT a IN (SELECT b FROM u) AS a FROM t": "IN (SELECT …)",
    "SELECT a FROM t WHERE EXISTS (SELECT b FROM u)": "EXISTS",
    "SELECT a LIKE 'x%' AS a FROM t": "LIKE",
    "SELECT a FROM t UNION SELECT a FROM u": "UNION",
    "SELECT a FROM t UNION ALL BY NAME SELECT a FROM u": "BY NAME",
    "SELECT a FROM t UNION ALL SELECT b FROM u": "a part with other names",
    "SELECT * FROM t UNION ALL SELECT a FROM u": "SELECT *",
    "SELECT a FROM t EXCEPT SELECT a FROM u": "EXCEPT",
    "SELECT a FROM t INTERSECT SELECT a FROM u": "INTERSECT",
    "SELECT t.* FROM t": "SELECT *",
    "SELECT * REPLACE (1 AS a) FROM t": "SELECT *",
    "SELECT count(*) FROM t": "without a name",
    "SELECT t.a FROM t": "without a name",
    "SELECT DISTINCT ON (a) a, b FROM t": "DISTINCT ON",
    "SELECT a FROM t LIMIT 1": "LIMIT",
    "SELECT max(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS a FROM t": "a frame",
    "SELECT last_value(a IGNORE NULLS) OVER (ORDER BY b) AS a FROM t": "last_value()",
    "WITH u AS (SELECT a FROM t) SELECT x.a AS a FROM u AS x JOIN u AS y ON y.a = x.a": "u read 2 times",
    "WITH u AS (SELECT a FROM t) SELECT a FROM t": "u read by nobody",
    "WITH RECURSIVE u AS (SELECT a FROM t UNION ALL SELECT a FROM u) SELECT a FROM u": "RECURSIVE",
    'SELECT "at" AS a FROM t': '"at"',
    "SELECT E'x' AS a FROM t": "E'…'",
    "SELECT ? AS a FROM t": "a parameter",
    "SELECT $now AS a FROM t": "a parameter",
    "SELECT a FROM read_parquet('x')": "read_parquet",
    "SELECT a FROM 'x.parquet'": '"x.parquet"',
    "SELECT a FROM lake.t": "lake.t",
    "FROM t": "SELECT *",
    "SELECT a FROM t; SELECT b FROM u": ";",
    "CREATE TABLE u AS SELECT a FROM t": "one SELECT",
    "DELETE FROM t": "one SELECT",
    "SELECT a FROM (": "this",
}


@pytest.mark.parametrize("file", query_files(), ids=lambda file: file.stem)
def test_every_query_of_the_package_is_in_the_portable_subset(file: Path) -> None:
    assert problems(file.read_text(encoding="utf-8"), file.name) == []


def test_there_are_queries_to_look_at() -> None:
    assert {"run_attempts", "budget_points", "change_lead_time"} <= {file.stem for file in query_files()}


def test_what_every_engine_reads_passes() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize("query", BAD, ids=BAD.get)
def test_what_engines_read_differently_is_refused_by_name(query: str) -> None:
    found = problems(query)
    assert [problem for problem in found if BAD[query].lower() in problem.what.lower()], found


def test_a_message_names_file_line_thing_and_way_out() -> None:
    (problem,) = problems("SELECT a,\n       b,\n       sum(c) FILTER (WHERE d) AS e\nFROM t\nGROUP BY a, b", "x.sql")
    assert problem == Problem("x.sql", 3, "FILTER", "aggregate a CASE: sum(CASE WHEN … THEN 1 ELSE 0 END)")
    assert str(problem).startswith("x.sql:3: FILTER is outside the portable subset; aggregate a CASE")


def test_the_command_prints_problems_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(query_files()) == 0
    assert capsys.readouterr().out == ""
    root = Path(__file__).resolve().parents[1]
    bad = root / "data" / "portable_sql" / "outside.sql"
    assert main([bad]) == 1
    lines = {line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()}
    assert lines == {f"tests/data/portable_sql/outside.sql:{number}:" for number in (2, 3)}
