"""The published database is the lake, whether it was made anew or brought up to date."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.engine import connect
from analytics.lake import publish as publishing
from analytics.lake.publish import publish
from analytics.lake.tables import lake_relation, write_partitions, write_table
from analytics.lake.updating import replace_rows
from analytics.settings import Settings, load_settings

QUARTERS = ("2025-Q3", "2025-Q4", "2026-Q1", "2026-Q2")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("organization: A\n", encoding="utf-8")
    settings = load_settings(path)
    with connect(settings) as con:
        days = ", ".join(f"('{day}', '{q}')" for q in QUARTERS for day in days_of(q))
        con.execute(
            f"CREATE TABLE calendar AS SELECT CAST(day AS DATE) AS day, q AS quarter FROM (VALUES {days}) t(day, q)"
        )
        write_table(con, settings, "calendar", "SELECT * FROM calendar")
        write_table(con, settings, "service_deployments", deployments(*QUARTERS))
        write_table(con, settings, "deployments", landed(*QUARTERS))
        write_table(con, settings, "services", "SELECT 'shop' AS service")
        write_table(con, settings, "metric_values", values(0.5, *QUARTERS))
    publish(settings)
    return settings


def days_of(quarter: str) -> tuple[str, str]:
    """The first and the last day, which are enough of a calendar."""
    year, number = quarter.split("-Q")
    month = 3 * int(number) - 2
    return f"{year}-{month:02d}-01", f"{year}-{month + 2:02d}-30"


def deployments(*quarters: str, outcome: str = "success") -> str:
    rows = ", ".join(f"('{day}', '{outcome}')" for quarter in quarters for day in days_of(quarter))
    return f"SELECT 'shop' AS service, CAST(day AS DATE) AS day, outcome FROM (VALUES {rows}) AS t(day, outcome)"


def landed(*quarters: str) -> str:
    rows = ", ".join(f"(TIMESTAMP '{day} 23:59:59.999999')" for quarter in quarters for day in days_of(quarter))
    return f"SELECT 'd' AS deployment_id, moment AS created_at FROM (VALUES {rows}) AS t(moment)"


def values(value: float, *quarters: str) -> str:
    rows = ", ".join(f"('{quarter}')" for quarter in quarters)
    return f"SELECT 'lead' AS metric, quarter, {value} AS value FROM (VALUES {rows}) AS t(quarter)"


def replace(settings: Settings, name: str, query: str, *quarters: str) -> None:
    with connect(settings) as con:
        con.execute(f"CREATE TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        write_partitions(con, settings, name, query, quarters) if quarters else write_table(con, settings, name, query)


def published(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect(settings.published_path, read_only=True) as con:
        return {
            name: con.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall()
            for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }


def anew(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    (settings.temp_dir / "published.json").unlink()
    publish(settings)
    return published(settings)


@pytest.fixture
def only_updates(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def refused(*_: object) -> int:
        raise AssertionError("made from the whole lake")

    monkeypatch.setattr(publishing, "_make", refused)
    return monkeypatch


def test_an_update_is_what_is_made_anew(settings: Settings, only_updates: pytest.MonkeyPatch) -> None:
    replace(settings, "service_deployments", deployments("2026-Q1", outcome="failure"), "2026-Q1")
    replace(settings, "deployments", landed("2025-Q4", "2025-Q4"), "2025-Q4")
    replace(settings, "services", "SELECT 'till' AS service")
    replace(settings, "metric_values", values(0.25, "2026-Q2"), "2026-Q2")
    replace(settings, "metric_values", values(0.5, "2025-Q3", "2025-Q3"), "2025-Q3")
    before = published(settings)
    publish(settings)
    updated = published(settings)
    assert updated["service_deployments"] != before["service_deployments"]
    assert len(updated["deployments"]) == len(before["deployments"]) + 2
    assert updated["snapshot"] != before["snapshot"]
    only_updates.undo()
    assert anew(settings) == updated


def test_rows_of_files_that_came_are_added_and_nothing_else_is_looked_at(
    settings: Settings, only_updates: pytest.MonkeyPatch
) -> None:
    with connect(settings) as con:
        con.execute(f"CREATE TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        twice = f"({deployments('2026-Q1')} UNION ALL {deployments('2026-Q1')})"
        for name, query in (("service_deployments", twice), ("services", "(SELECT 'till' AS service)")):
            coming = f"SELECT * FROM {lake_relation(settings, name)} WHERE false UNION ALL BY NAME {query}"
            replace_rows(con, settings, name, leaving=None, coming=coming)
    before = published(settings)
    for name in ("_exchange", "_create"):
        usual = getattr(publishing, name)

        def only_of_the_snapshot(con: Any, *given: Any, usual: Any = usual) -> None:
            assert "snapshot" in {getattr(one, "name", None) for one in given}
            usual(con, *given)

        only_updates.setattr(publishing, name, only_of_the_snapshot)
    publish(settings)
    updated = published(settings)
    assert len(updated["service_deployments"]) == len(before["service_deployments"]) + 4
    assert len(updated["services"]) == 2
    only_updates.undo()
    assert anew(settings) == updated


def test_tables_that_are_written_meanwhile_are_published_as_they_are_in_the_end(
    settings: Settings, only_updates: pytest.MonkeyPatch
) -> None:
    replace(settings, "service_deployments", deployments("2026-Q1", outcome="failure"), "2026-Q1")
    before = published(settings)
    with connect(settings) as con, publishing.publishing(con, settings, ["metric_values", "restatements"]) as finish:
        replace(settings, "metric_values", values(0.25, "2026-Q2"), "2026-Q2")
        assert published(settings) == before
        finish()
    updated = published(settings)
    assert [row[5] for row in updated["metric_values"]] == [0.5, 0.5, 0.5, 0.25]
    assert updated["service_deployments"] != before["service_deployments"]
    only_updates.undo()
    assert anew(settings) == updated


@pytest.mark.parametrize("breaks", [None, "before", "after"])
def test_a_stage_that_fails_publishes_nothing_and_leaves_nothing(settings: Settings, breaks: str | None) -> None:
    replace(settings, "service_deployments", deployments("2026-Q1", outcome="failure"), "2026-Q1")
    bytes_before = settings.published_path.read_bytes()
    if breaks == "before":  # nothing of the last publication is known, so that all would be made anew
        (settings.temp_dir / "published.json").unlink()
    with (
        connect(settings) as con,
        pytest.raises(ZeroDivisionError) if breaks else nullcontext(),
        publishing.publishing(con, settings, ["metric_values"]),
    ):
        if breaks == "after":
            con.execute("SELECT count(*) FROM range(20_000_000)").fetchall()
        if breaks:
            raise ZeroDivisionError
    assert settings.published_path.read_bytes() == bytes_before
    assert not list(settings.temp_dir.glob("write-*"))
    publish(settings)
    assert published(settings) == anew(settings)


def test_a_quarter_that_is_gone_is_gone(settings: Settings, only_updates: pytest.MonkeyPatch) -> None:
    replace(settings, "service_deployments", "SELECT 'shop' AS service WHERE false", "2026-Q2")
    publish(settings)
    assert len(published(settings)["service_deployments"]) == 6


def test_rows_that_are_as_they_were_stay_where_they_are(settings: Settings, only_updates: pytest.MonkeyPatch) -> None:
    more = f"{deployments('2026-Q2')} UNION ALL SELECT 'till', DATE '2026-06-30', 'failure'"
    replace(settings, "service_deployments", more, "2026-Q2")

    def places() -> set[tuple[Any, ...]]:
        with duckdb.connect(settings.published_path, read_only=True) as con:
            return {*con.execute("SELECT rowid, service, day FROM service_deployments").fetchall()}

    before = places()
    publish(settings)
    assert before < places()


def test_values_of_a_lake_that_did_not_part_them_are_told_anew(
    settings: Settings, only_updates: pytest.MonkeyPatch
) -> None:
    with connect(settings) as con:
        write_table(con, settings, "metric_values", "SELECT 'lead' AS metric, 0.5 AS value")
    publish(settings)
    first = published(settings)["snapshot"]
    replace(settings, "metric_values", "SELECT 'lead' AS metric, 0.75 AS value")
    publish(settings)
    assert published(settings)["snapshot"] != first
    assert [row[5] for row in published(settings)["metric_values"]] == [0.75]


def test_nothing_new_is_published_as_the_same(settings: Settings, only_updates: pytest.MonkeyPatch) -> None:
    before = published(settings)

    publish(settings)
    assert published(settings) == before


def test_a_file_that_was_touched_is_made_anew(settings: Settings) -> None:
    with duckdb.connect(settings.published_path) as con:
        con.execute("DELETE FROM services")
    publish(settings)
    assert [row[0] for row in published(settings)["services"]] == ["shop"]


def test_a_file_that_has_grown_too_much_is_made_anew(settings: Settings, only_updates: pytest.MonkeyPatch) -> None:
    only_updates.setattr(publishing, "MOST_TIMES_AS_LARGE", 0.5)
    with pytest.raises(AssertionError, match="whole lake"):
        publish(settings)


def test_rows_that_do_not_add_up_are_made_anew(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as rows whose quarter another calendar has moved."""
    with connect(settings) as con:
        con.execute("CREATE TABLE calendar AS SELECT DATE '2026-02-01' AS day, '2026-Q1' AS quarter")
        write_table(con, settings, "calendar", "SELECT * FROM calendar")
        con.execute("CREATE OR REPLACE TABLE calendar AS SELECT DATE '2026-01-01' AS day, '2026-Q1' AS quarter")
        query = "SELECT 'shop' AS service, DATE '2026-01-01' AS day"
        write_partitions(con, settings, "service_deployments", query, ["2026-Q1"])
    publish(settings)
    assert len(published(settings)["service_deployments"]) == 7
