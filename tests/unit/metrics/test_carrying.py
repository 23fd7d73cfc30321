"""What is carried over from the measuring before is what a measuring of everything gives, whatever has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.engine import connect
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation, quarters_of, write_partitions, write_table
from analytics.metrics import measure as measuring
from analytics.metrics.carrying import (
    LASTING,
    NOTE,
    OWN_DAY,
    OWN_DAYS,
    OWN_QUARTER,
    Basis,
    _moving,
    asks_for_cut_off,
    changed_quarters,
    forget_basis,
    stale_quarters,
    touched_quarters,
)
from analytics.metrics.measure import measure
from analytics.metrics.metric import Metric
from analytics.metrics.registry import BY_NAME, METRICS
from analytics.periods import Quarter
from analytics.settings import Settings

QUARTERS = [Quarter(2025, 4), Quarter(2026, 1), Quarter(2026, 2), Quarter(2026, 3)]
LEAD, CHECKED, RUNS = BY_NAME["change_lead_time"], BY_NAME["verification_coverage"], BY_NAME["pipeline_rerun_rate"]
VALUE = list(TABLES["metric_values"].columns).index("value")
BEFORE = Basis(
    "2026-07-05T00:00:00+00:00",
    {"code": "1"},
    {(table, str(q)): "a" for table in ("change_lead", "service_deployments", "run_attempts") for q in QUARTERS},
    tuple(map(str, QUARTERS)),
)


def stale(
    after: Basis, before: Basis | None = BEFORE, metrics: Sequence[Metric] = (LEAD, CHECKED, RUNS)
) -> dict[str, list[int]]:
    calendar = Settings(organization="Acme").calendar
    found = stale_quarters(before, after, calendar, metrics, QUARTERS)
    return {name: sorted(numbers) for name, numbers in found.items()}


def changed(table: str, quarter: str) -> Basis:
    return replace(BEFORE, facts={**BEFORE.facts, (table, quarter): "b"})


def test_only_the_quarter_in_progress_is_measured_again_when_nothing_has_changed() -> None:
    assert stale(BEFORE) == {LEAD.name: [3], CHECKED.name: [3], RUNS.name: [3]}


def test_a_fact_reaches_its_own_quarter_and_the_one_compared_with_it() -> None:
    assert stale(changed("run_attempts", "2025-Q4")) == {LEAD.name: [3], CHECKED.name: [3], RUNS.name: [0, 1, 3]}


def test_deployments_reach_what_says_that_nothing_was_deployed() -> None:
    assert stale(changed("service_deployments", "2026-Q1")) == {
        LEAD.name: [1, 2, 3],
        CHECKED.name: [1, 2, 3],
        RUNS.name: [3],
    }


def test_what_lasts_until_the_cut_off_reaches_only_who_asks_for_it() -> None:
    after = changed("service_deployments.recovery_open", "2025-Q4")
    recovery = BY_NAME["failed_deployment_recovery_time"]
    assert stale(after)[LEAD.name] == [3]
    assert stale(after, metrics=[recovery]) == {recovery.name: [0, 1, 3]}


def test_what_lasts_counts_until_it_is_longer_than_all_that_has_ended() -> None:
    day = 86_400_000_000
    spans = {
        ("service_deployments", "2025-Q4"): (0, 9 * day),
        ("service_deployments", "2026-Q1"): (5 * day, 2 * day),
        ("service_deployments", "2026-Q2"): (-1, 1 * day),
    }

    def moving(at: str) -> dict[str, str]:
        found = _moving(spans, datetime.fromisoformat(at))
        return {quarter: moment for (table, quarter), moment in found.items() if table.endswith("s.recovery_open")}

    at = "1970-01-10T00:00:00+00:00"
    assert moving(at) == {"2025-Q4": at, "2026-Q1": at, "2026-Q2": ""}
    at = "1970-01-10T00:00:00.000001+00:00"
    assert moving(at) == {"2025-Q4": "", "2026-Q1": at, "2026-Q2": ""}
    assert set(moving("1970-01-16T00:00:00+00:00").values()) == {""}


def test_who_makes_something_else_of_what_lasts_is_measured_in_every_quarter() -> None:
    counting = replace(BY_NAME["failed_deployment_recovery_time"], kind="quantile")
    assert stale(BEFORE, metrics=[counting]) == {counting.name: [0, 1, 2, 3]}


@pytest.mark.parametrize(
    ("table", "metric"), [("service_incidents", "config_drift_incidents"), ("quarters", "runbook_freshness")]
)
def test_a_row_reaches_the_quarters_of_its_days_and_the_one_that_it_tells_of(table: str, metric: str) -> None:
    assert stale(changed(table, "2025-Q4"), metrics=[BY_NAME[metric]]) == {metric: [0, 1, 3]}


@pytest.mark.parametrize(("table", "quarter"), [("deployment_checks", "2025-Q4"), ("service_deployments", "undated")])
def test_what_may_count_on_another_day_reaches_every_quarter(table: str, quarter: str) -> None:
    assert stale(changed(table, quarter))[CHECKED.name] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "before", [None, replace(BEFORE, rules={"code": "2"}), replace(BEFORE, rules={**BEFORE.rules, "more": ""})]
)
def test_another_program_catalog_or_source_and_an_unknown_past_reach_everything(before: Basis | None) -> None:
    assert stale(BEFORE, before)[RUNS.name] == [0, 1, 2, 3]


def test_a_quarter_that_was_not_over_or_not_measured_is_measured() -> None:
    assert stale(BEFORE, replace(BEFORE, cut_off="2026-06-20T00:00:00+00:00"))[RUNS.name] == [2, 3]
    assert stale(BEFORE, replace(BEFORE, quarters=BEFORE.quarters[2:]))[RUNS.name] == [0, 1, 2, 3]


def test_a_basis_is_noted_whole() -> None:
    whole = replace(
        BEFORE, files={("change_lead", "2026-Q1"): "c"}, spans={("service_deployments", "2026-Q1"): (1, -1)}
    )
    assert Basis.of_rows(whole.rows()) == whole
    assert Basis.of_rows([]) is None


@pytest.fixture
def _unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "publishing", lambda *_: nullcontext(lambda: None))


def rows(settings: Settings, table: str) -> list[tuple[Any, ...]]:
    with connect(settings) as con:
        return con.execute(f"SELECT * FROM {lake_relation(settings, table)} ORDER BY ALL").fetchall()


def lose_rows(settings: Settings, table: str, quarter: str, seed: int) -> None:
    """Some of a quarter's rows are no longer there."""
    with connect(settings) as con:
        con.execute(f"CREATE TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        con.execute(f"CREATE TABLE all_rows AS SELECT * FROM {lake_relation(settings, table)}")
        lost = f"hash(all_rows, {seed}) % 3 = 0"
        dated = measuring_date(table)
        if dated is None:
            write_table(con, settings, table, f"SELECT * FROM all_rows WHERE NOT ({lost})")
            return
        of_quarter = f"CAST({dated} AS DATE) IN (SELECT day FROM calendar WHERE quarter = '{quarter}')"
        write_partitions(con, settings, table, f"SELECT * FROM all_rows WHERE {of_quarter} AND NOT ({lost})", [quarter])


def leave_open(settings: Settings, quarter: str) -> None:
    """At a quarter's end much has failed: 100 deployments were recovered from after 161 days, 400 have not been."""
    with connect(settings) as con:
        con.execute(f"CREATE TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        con.execute(f"CREATE TABLE known AS SELECT * FROM {lake_relation(settings, 'service_deployments')}")
        con.execute(f"DELETE FROM known WHERE day NOT IN (SELECT day FROM calendar WHERE quarter = '{quarter}')")
        write_partitions(
            con,
            settings,
            "service_deployments",
            "SELECT * FROM known UNION ALL BY NAME SELECT last.* REPLACE (concat('made ', n) AS deployment_key, "
            "'success' AS outcome, 'change' AS kind, true AS resolved, true AS failed, NULL AS recovery_excluded, "
            "last.day AS finished_at, false AS counts_as_failed_attempt, NULL AS recovered_at, "
            f"n >= 100 AS recovery_open, CASE WHEN n < 100 THEN {161 * 86_400_000_000} END AS recovery_us) "
            "FROM (FROM known ORDER BY day DESC LIMIT 1) AS last CROSS JOIN range(500) AS made(n)",
            [quarter],
        )


def measuring_date(table: str) -> str | None:
    return TABLES[table].dated_by


def cut_off(settings: Settings, moment: str) -> None:
    with connect(settings) as con:
        con.execute(f"CREATE TABLE known AS SELECT * FROM {lake_relation(settings, 'snapshot')}")
        write_table(
            con,
            settings,
            "snapshot",
            f"SELECT key, CASE WHEN key = 'cut_off' THEN '{moment}' ELSE value END AS value FROM known",
        )


def tables_of(metrics: Iterable[Any]) -> list[str]:
    return sorted({table for metric in metrics for table in metric.tables} - {"services", "quarters"})


@pytest.mark.usefixtures("_unpublished")
@examples(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # Each example starts from the lake that the one before has left: nothing can be made smaller.
    phases=[Phase.explicit, Phase.generate],
    database=None,
)
@given(st.data())
def test_an_update_equals_a_measuring_of_everything(sample: Settings, data: st.DataObject) -> None:
    """Values, reasons, words and p-values; and each change of a published value is told once, by either."""
    if data.draw(st.booleans()):
        leave_open(sample, data.draw(st.sampled_from(quarters_of(sample, "service_deployments"))))
    measure(sample)
    tables = [table for table in tables_of(METRICS) if quarters_of(sample, table)]
    for _ in range(data.draw(st.integers(0, 2))):
        table = data.draw(st.sampled_from(tables))
        lose_rows(sample, table, data.draw(st.sampled_from(quarters_of(sample, table))), data.draw(st.integers(0, 9)))
    cut_off(sample, data.draw(st.sampled_from([f"2026-{month}-09T00:00:00+00:00" for month in ("08", "10", "11")])))
    told = rows(sample, "restatements")
    measure(sample)
    updated, retold = rows(sample, "metric_values"), rows(sample, "restatements")
    forget_basis(sample)
    measure(sample)
    assert rows(sample, "metric_values") == updated
    assert rows(sample, "restatements") == retold
    assert len(retold) >= len(told)


@pytest.mark.usefixtures("_unpublished")
def test_another_day_of_a_row_and_another_end_of_a_quarter_are_measured(sample: Settings) -> None:
    """Incidents whose restoration lies in the quarter before, and what counts at the end of a quarter."""
    measure(sample)
    before = rows(sample, "metric_values")
    with connect(sample) as con:
        con.execute(f"CREATE TABLE calendar AS SELECT * FROM {lake_relation(sample, 'calendar')}")
        for table, changes in {
            "service_incidents": "CASE WHEN opened_day < DATE '2026-07-01' THEN day ELSE day - 92 END AS day",
            "quarters": "CASE WHEN quarter = '2026-Q2' THEN last_day ELSE runbooks_from END AS runbooks_from",
        }.items():
            con.execute(f"CREATE TABLE known_{table} AS SELECT * FROM {lake_relation(sample, table)}")
            write_table(con, sample, table, f"SELECT * REPLACE ({changes}) FROM known_{table}")
    measure(sample)
    updated = rows(sample, "metric_values")
    differing = {row[0] for row in {*before} ^ {*updated}}
    assert {"incident_time_to_restore", "runbook_freshness"} <= differing
    forget_basis(sample)
    measure(sample)
    assert rows(sample, "metric_values") == updated


@pytest.mark.usefixtures("_unpublished")
def test_an_open_failure_of_a_quarter_long_over_is_as_long_as_the_cut_off_says(sample: Settings) -> None:
    leave_open(sample, "2026-Q2")
    found = {}
    for moment in ("2026-10-09T00:00:00+00:00", "2026-12-09T00:00:00+00:00"):
        cut_off(sample, moment)
        measure(sample)
        values = rows(sample, "metric_values")
        found[moment] = next(
            row[VALUE]
            for row in values
            if row[:4] == ("failed_deployment_recovery_time", "organization", "Harbour & Pine", "2026-Q2")
        )
        forget_basis(sample)
        measure(sample)
        assert rows(sample, "metric_values") == values
    # At first the median; later more of the open ones have lasted as long as those that ended.
    assert list(found.values()) == [161 * 24.0, None]


@pytest.mark.usefixtures("_unpublished")
def test_values_that_somebody_else_wrote_are_not_relied_upon(sample: Settings) -> None:
    measure(sample)
    expected = rows(sample, "metric_values")
    with connect(sample) as con:
        con.execute(f"CREATE TABLE known AS SELECT * FROM {lake_relation(sample, 'metric_values')}")
        write_table(con, sample, "metric_values", "SELECT * REPLACE (0.5 AS value) FROM known")
    measure(sample)
    assert rows(sample, "metric_values") == expected


@pytest.mark.usefixtures("_unpublished")
def test_a_measuring_that_is_killed_while_it_writes_is_not_relied_upon(
    sample: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(sample)
    with monkeypatch.context() as killing:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        killing.setattr(measuring, "note_basis", killed)
        with pytest.raises(KeyboardInterrupt):
            measure(sample)
    assert rows(sample, NOTE) == []


def files(settings: Settings, table: str) -> dict[str, tuple[int, int]]:
    return {
        path.parent.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in settings.lake_dir.glob(f"{table}/*/*.parquet")
    }


@pytest.mark.usefixtures("_unpublished")
def test_a_quarter_whose_values_are_as_they_were_is_not_written_again(sample: Settings) -> None:
    measure(sample)
    written, count = files(sample, "metric_values"), measure(sample).values
    assert files(sample, "metric_values") == written
    assert count == len(rows(sample, "metric_values"))
    lose_rows(sample, "run_attempts", "2026-Q3", 4)
    measure(sample)
    now = files(sample, "metric_values")
    assert {quarter for quarter in written if now[quarter] != written[quarter]} == {
        "quarter=2026-Q3",
        "quarter=2026-Q4",
    }


@pytest.mark.usefixtures("_unpublished")
def test_a_quarter_that_is_no_longer_measured_has_no_values(sample: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(sample)
    monkeypatch.setattr(measuring, "MOST_QUARTERS", 2)
    measure(sample)
    updated = rows(sample, "metric_values")
    assert quarters_of(sample, "metric_values") == ["2026-Q3", "2026-Q4"]
    forget_basis(sample)
    measure(sample)
    assert rows(sample, "metric_values") == updated


def test_a_quarter_that_is_read_no_longer_is_touched_and_one_that_nothing_reaches_is_not() -> None:
    quarters = [Quarter(2023, 1).plus(number) for number in range(12)]
    known = replace(BEFORE, quarters=tuple(map(str, quarters[:11])))
    stale = {LEAD.name: frozenset({11}), RUNS.name: frozenset({6, 11})}
    assert touched_quarters(known, stale, quarters) == {2, 6, 11}
    assert touched_quarters(None, stale, quarters) == set(range(12))


@pytest.mark.parametrize(
    ("there", "here", "changed"),
    [
        ([("a", 1.0), ("b", 2.0)], [("b", 2.0), ("a", 1.0)], set()),
        ([("a", 1.0), ("a", 1.0), ("b", 2.0)], [("a", 1.0), ("b", 2.0), ("b", 2.0)], {"a", "b"}),
        ([("a", None)], [("a", 0.0)], {"a"}),
        ([("a", 1.0), ("b", 1.0)], [("a", 1.0)], {"b"}),
    ],
)
def test_a_quarter_has_changed_when_its_rows_have(
    there: list[tuple[str, float | None]], here: list[tuple[str, float | None]], changed: set[str]
) -> None:
    one, other = (
        pl.DataFrame(found, schema={"quarter": pl.String, "value": pl.Float64}, orient="row") for found in (there, here)
    )
    assert changed_quarters(one, other) == changed


def test_who_asks_for_the_cut_off_reads_only_tables_that_say_which_rows_last_until_then() -> None:
    asking = [metric for metric in METRICS if asks_for_cut_off(metric)]
    assert [metric.name for metric in asking] == ["failed_deployment_recovery_time"]
    assert all(LASTING.keys() >= set(metric.tables) for metric in asking)
    assert all({lasting.column, lasting.ended_us} <= TABLES[table].columns.keys() for table, lasting in LASTING.items())


def test_every_table_of_own_days_is_dated_by_its_day() -> None:
    assert {measuring_date(table) for table in OWN_DAY} == {"day"}
    assert all(measuring_date(table) == days[0] for table, days in OWN_DAYS.items())
    assert all("quarter" in TABLES[table].columns and measuring_date(table) is None for table in OWN_QUARTER)
