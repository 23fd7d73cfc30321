"""The annex: every table behind the pages, unrounded, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest

from analytics.settings import Settings
from reports.annex import DICTIONARY, annex_files
from reports.contents import Contents, read_contents
from reports.pack import PackResult
from reports.published import open_published, rows
from tests.unit.reports.conftest import HOSTILE_NAMES
from tests.unit.reports.published_world import QUARTER


@pytest.fixture(scope="module")
def contents(settings: Settings) -> Contents:
    return read_contents(settings, QUARTER)


@pytest.fixture(scope="module")
def annex(pack: PackResult) -> Path:
    return pack.path / "annex"


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


def test_numbers_are_written_unrounded(annex: Path) -> None:
    rate = next(row for row in read_csv(annex / "metric_values.csv") if row["metric"] == "change_fail_rate")
    assert float(rate["value"]) == 8 / 94
    assert 8 / 94 in pl.read_parquet(annex / "metric_values.parquet")["value"].to_list()
    assert 8 / 94 in [row["value"] for row in json.loads((annex / "metric_values.json").read_text())]


def test_earlier_quarters_stand_apart(annex: Path) -> None:
    assert {row["quarter"] for row in read_csv(annex / "metric_values.csv")} == {"2026-Q3"}
    assert {row["quarter"] for row in read_csv(annex / "metric_history.csv")} == {"2026-Q2"}


@pytest.mark.parametrize("table", DICTIONARY)
def test_the_dictionary_describes_every_column_and_the_three_forms_hold_the_same_rows(annex: Path, table: str) -> None:
    described = [row["column"] for row in read_csv(annex / "dictionary.csv") if row["file"] == table]
    parquet = pl.read_parquet(annex / f"{table}.parquet")
    parsed = json.loads((annex / f"{table}.json").read_text())
    assert next(csv.reader(io.StringIO((annex / f"{table}.csv").read_text()))) == described == parquet.columns
    assert len(parsed) == parquet.height == len(read_csv(annex / f"{table}.csv"))
    assert all(list(row) == described for row in parsed)


def test_the_annex_holds_what_the_database_holds(settings: Settings, annex: Path) -> None:
    with open_published(settings) as con:
        stored = rows(con, "SELECT sum(n) AS n, count(*) AS values FROM metric_values WHERE quarter = '2026-Q3'")[0]
    written = read_csv(annex / "metric_values.csv")
    assert len(written) == stored["values"]
    assert sum(int(row["n"] or 0) for row in written) == stored["n"]


def test_the_annex_adds_up_to_what_the_pages_say(annex: Path, contents: Contents) -> None:
    pipelines = pl.read_parquet(annex / "pipelines.parquet")
    assert pipelines["lost_hours"].sum() == pytest.approx(sum(one.lost_hours for one in contents.pipelines))
    findings = pl.read_parquet(annex / "findings.parquet")
    states = {"open": 3, "waived": 1, "fixed": 1}
    assert {state: findings.filter(pl.col("state") == state).height for state in states} == states
    assert pl.read_parquet(annex / "failed_deployments.parquet").height == len(contents.failed) == 8


def test_a_name_that_opens_a_formula_is_inert_in_every_csv_and_whole_in_json(hostile_pack: Path) -> None:
    for file in sorted((hostile_pack / "annex").glob("*.csv")):
        for cells in csv.reader(io.StringIO(file.read_text(), newline="")):
            for cell in cells:
                # A number may be negative.
                assert not cell.startswith(("=", "+", "@", "\t", "\r")), (file.name, cell)
                assert not (cell.startswith("-") and not cell[1:2].isdigit()), (file.name, cell)
    names = {row["service"] for row in json.loads((hostile_pack / "annex" / "findings.json").read_text())}
    assert set(HOSTILE_NAMES) <= names


def test_the_same_contents_give_the_same_bytes(contents: Contents) -> None:
    assert annex_files(contents) == annex_files(contents)
