"""Rows reach an executor and come back from it as they were: nothing is rounded, cut, reordered or made up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="the extra spark is not installed")

from analytics.catalog import DeploymentSelector, RollbackReadiness, Service  # noqa: E402
from analytics.delivery.arrow_rows import (  # noqa: E402
    FACT_STRUCTS,
    MESSAGE,
    ROW_COLUMNS,
    IncidentMessage,
    Message,
    ProvenanceMessage,
    ServiceMessage,
    fact_record_batches,
    gathered,
    message_table,
)
from analytics.delivery.records import ExplicitLink, Incident  # noqa: E402
from analytics.lake.schemas import TABLES  # noqa: E402

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
maybe = st.one_of(st.none(), texts)
# Python's own times reach as far as a lake's do.
moments = st.datetimes(datetime(1970, 1, 1), datetime(9990, 1, 1))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "VARCHAR": texts,
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "DOUBLE": st.floats(allow_nan=False),
    "BOOLEAN": st.booleans(),
    "DATE": st.dates(date(1970, 1, 1), date(9990, 1, 1)),
    "TIMESTAMP": moments,
    "VARCHAR[]": st.lists(texts, max_size=3),
}
ARROW = {
    "TIMESTAMP": pa.timestamp("us"),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "VARCHAR[]": pa.list_(pa.string()),
    "STATUSES": pa.list_(pa.struct([("state", pa.string()), ("at", pa.timestamp("us"))])),
    "REVISIONS": pa.list_(pa.struct([("repository", pa.string()), ("sha", pa.string())])),
}
VALUES["STATUSES"] = st.lists(st.fixed_dictionaries({"state": texts, "at": moments}), max_size=2)
VALUES["REVISIONS"] = st.lists(st.fixed_dictionaries({"repository": texts, "sha": texts}), max_size=2)
SPECIAL = {
    "is_bot": "BOOLEAN",
    "number": "BIGINT",
    "attempt": "BIGINT",
    "line": "BIGINT",
    "statuses": "STATUSES",
    "revisions": "REVISIONS",
} | dict.fromkeys(
    ("parents", "files", "reverts", "reverts_pull_requests", "picked_from", "labels", "commits"), "VARCHAR[]"
)


def kind_of(column: str) -> str:
    """The type of a column of an input row."""
    return "TIMESTAMP" if column.endswith("_at") else SPECIAL.get(column, "VARCHAR")


def rows_of(kind: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """Rows of a kind, any value of which may be NULL."""
    return st.tuples(*(st.one_of(st.none(), VALUES[kind_of(column)]) for column in ROW_COLUMNS[kind]))


def record_batch(rows: list[tuple[int, str, tuple[Any, ...]]]) -> Any:
    """What Spark hands to the function: a struct per kind, the others NULL, and no message."""
    columns = [pa.array([row[0] for row in rows], pa.int32()), pa.array([row[1] for row in rows], pa.string())]
    for kind, names in ROW_COLUMNS.items():
        struct = pa.struct([(name, ARROW[kind_of(name)]) for name in names])
        values = [dict(zip(names, row[2], strict=True)) if row[1] == kind else None for row in rows]
        columns.append(pa.array(values, struct))
    columns.append(pa.nulls(len(rows), pa.binary()))
    return pa.RecordBatch.from_arrays(columns, ["batch", "kind", *ROW_COLUMNS, MESSAGE])


@settings(max_examples=20)
@given(st.data(), st.integers(1, 7))
def test_rows_come_to_an_executor_as_they_stand_in_their_tables(data: st.DataObject, cut: int) -> None:
    kinds = st.sampled_from(sorted(ROW_COLUMNS))
    rows = [
        (number, kind, data.draw(rows_of(kind)))
        for number in range(data.draw(st.integers(0, 3)))
        for kind in data.draw(st.lists(kinds, min_size=1, max_size=5))
    ]
    # A record batch ends anywhere, also within a batch of services.
    parts = [record_batch(rows[at : at + cut]) for at in range(0, len(rows), cut)]
    found = list(gathered(parts))
    assert [one.number for one in found] == sorted({number for number, _, _ in rows})
    for one in found:
        for kind in ROW_COLUMNS:
            assert one.rows[kind] == [row for number, of, row in rows if (number, of) == (one.number, kind)]


def test_one_batch_is_handed_out_before_the_next_is_read() -> None:
    """Memory is bounded by a batch: rows of the next one are not asked for before."""
    asked: list[int] = []

    def parts() -> Iterator[Any]:
        for number in range(3):
            asked.append(number)
            yield record_batch([(number, "commit", tuple(None for _ in ROW_COLUMNS["commit"]))])

    batches = gathered(parts())
    assert next(batches).number == 0
    assert asked == [0, 1]


services = st.builds(
    Service,
    name=texts.filter(bool),
    team=maybe,
    tier=st.one_of(st.none(), st.integers(0, 9)),
    repository=texts,
    paths=st.lists(texts, max_size=2),
    deploys=st.one_of(
        st.builds(DeploymentSelector, environments=st.lists(texts, min_size=1, max_size=2)),
        st.builds(DeploymentSelector, workflow=texts.filter(bool), job=maybe, lead_to=st.just("last_region")),
        st.builds(DeploymentSelector, releases=st.just(True)),
    ),
    link_window_hours=st.one_of(st.none(), st.floats(0, 1e6)),
    failed_attempt_is_failure=st.booleans(),
    rollback=st.builds(RollbackReadiness, runbook=maybe),
    since=st.one_of(st.none(), st.dates()),
)
incidents = st.builds(
    Incident,
    key=texts,
    ids=st.lists(texts, max_size=2).map(tuple),
    service=maybe,
    title=maybe,
    severity=maybe,
    labels=st.lists(texts, max_size=2).map(tuple),
    opened_at=moments,
    impact_started_at=moments,
    ended_at=st.one_of(st.none(), moments),
    restored_at=st.one_of(st.none(), moments),
    links=st.lists(st.builds(ExplicitLink, kind=texts, value=texts), max_size=2).map(tuple),
    fixed_by=st.lists(texts, max_size=2).map(tuple),
    url=maybe,
)


def sent(messages: list[tuple[int, Message]]) -> list[Any]:
    """What has come of messages on the other side, by batch."""
    table = message_table(messages)
    return [one.inputs() for one in gathered(table.to_batches())]


@given(services, st.sets(texts, max_size=3), st.lists(incidents, max_size=2), st.tuples(texts, texts))
def test_what_the_driver_knows_arrives_unchanged(
    service: Service, repositories: set[str], known: list[Incident], proven: tuple[str, str]
) -> None:
    messages: list[tuple[int, Message]] = [(3, ServiceMessage.of(service, repositories))]
    messages += [(3, IncidentMessage(incident, (service.name, "other"))) for incident in known]
    messages.append((3, ProvenanceMessage(service.name, "sha256:ab", (proven,))))
    ((batch, built_of),) = sent(messages)
    assert batch.services == [service]
    assert batch.repositories == {service.name: tuple(sorted(repositories))}
    assert batch.incidents == ({service.name: known, "other": known} if known else {})
    assert built_of(service.name, "sha256:ab") == (proven,)
    assert built_of(service.name, "sha256:cd") == ()


def test_services_come_in_the_order_of_their_repositories_and_names() -> None:
    declared = [Service(name=name, repository=where) for name, where in (("b", "Z"), ("a", "z"), ("c", "y"))]
    ((batch, _),) = sent([(0, ServiceMessage.of(service, [])) for service in declared])
    assert [service.name for service in batch.services] == ["c", "a", "b"]


def facts_of(table: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Rows of a fact table, any value of which may be NULL."""
    return st.tuples(
        st.just(table),
        st.fixed_dictionaries(
            {name: st.one_of(st.none(), VALUES[kind]) for name, kind in TABLES[table].columns.items()}
        ),
    )


@settings(max_examples=20)
@given(st.lists(st.one_of(*map(facts_of, FACT_STRUCTS)), max_size=6))
def test_facts_come_back_as_they_were_derived(facts: list[tuple[str, dict[str, Any]]]) -> None:
    found = [(row["fact"], row[row["fact"]]) for batch in fact_record_batches(iter(facts)) for row in batch.to_pylist()]
    order = list(dict.fromkeys(table for table, _ in facts))
    assert found == sorted(facts, key=lambda fact: order.index(fact[0]))


def test_a_row_stands_in_its_own_tables_struct_alone_and_what_it_lacks_is_null() -> None:
    (batch,) = fact_record_batches([("failure_links", {"service": "shop"})])
    (row,) = batch.to_pylist()
    assert {name for name in FACT_STRUCTS if row[name] is not None} == {"failure_links"}
    assert row["failure_links"] == dict.fromkeys(TABLES["failure_links"].columns) | {"service": "shop"}


def test_many_rows_come_in_record_batches_of_bounded_size() -> None:
    batches = list(fact_record_batches(("failure_links", {"service": str(n)}) for n in range(25_000)))
    assert [batch.num_rows for batch in batches] == [10_000, 10_000, 5_000]
