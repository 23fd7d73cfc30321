"""The annex: every value, unrounded, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json

from analytics.settings import Settings
from reports.annex import DICTIONARY, annex_files
from reports.pack import PackResult
from reports.published import MetricValue, open_published, rows


def value(name: str, quarter: str = "2026-Q3", amount: float | None = 1 / 3) -> MetricValue:
    return MetricValue(
        metric="change_fail_rate",
        scope="service",
        name=name,
        quarter=quarter,
        series=None,
        value=amount,
        unit="ratio",
        excluded={"merge_commit": 2},
    )


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_numbers_are_written_unrounded() -> None:
    files = annex_files([value("checkout")], "2026-Q3", [])
    assert float(read_csv(files["metric_values.csv"])[0]["value"]) == 1 / 3
    assert json.loads(files["metric_values.json"])[0]["value"] == 1 / 3


def test_a_name_that_opens_a_formula_is_made_inert_and_a_negative_number_is_not() -> None:
    for start in ("=", "+", "-", "@", "\t", "\r"):
        files = annex_files([value(f"{start}cmd", amount=-0.5)], "2026-Q3", [])
        row = read_csv(files["metric_values.csv"])[0]
        assert row["name"].startswith("'")
        assert row["value"] == "-0.5"
        assert json.loads(files["metric_values.json"])[0]["name"] == f"{start}cmd"


def test_earlier_quarters_stand_apart() -> None:
    files = annex_files([value("a"), value("a", "2026-Q2")], "2026-Q3", [])
    assert [row["quarter"] for row in read_csv(files["metric_values.csv"])] == ["2026-Q3"]
    assert [row["quarter"] for row in read_csv(files["metric_history.csv"])] == ["2026-Q2"]


def test_the_dictionary_describes_every_column() -> None:
    files = annex_files([value("a")], "2026-Q3", [])
    described = {(row["file"], row["column"]) for row in read_csv(files["dictionary.csv"])}
    for table in DICTIONARY:
        header = next(csv.reader(io.StringIO(files[f"{table}.csv"])))
        assert {(table, column) for column in header} <= described


def test_the_annex_holds_what_the_database_holds(settings: Settings, pack: PackResult) -> None:
    with open_published(settings) as con:
        stored = rows(con, "SELECT sum(n) AS n, count(*) AS values FROM metric_values WHERE quarter = '2026-Q3'")[0]
    written = read_csv((pack.path / "annex" / "metric_values.csv").read_text())
    assert len(written) == stored["values"]
    assert sum(int(row["n"] or 0) for row in written) == stored["n"]
