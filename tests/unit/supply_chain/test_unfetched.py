"""An attestation that its source could not hand over is ERROR_FETCH, and not the lack of one."""

from collections.abc import Iterator

import duckdb
import pytest

from analytics.supply_chain.deployments import Known, judge_deployments
from analytics.supply_chain.joining import Artifacts, Attestations, Deployed
from analytics.supply_chain.judging import unfetched_rows
from analytics.supply_chain.rules import load_policies
from tests.unit.supply_chain.judging_world import COMMIT, DEPLOYMENT, DIGEST

REPOSITORIES = ("acme/shop", "acme/shop")


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def test_what_could_not_be_fetched_is_told_apart_from_what_is_not_there(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE quarantine (source VARCHAR, entity VARCHAR, reason VARCHAR, detail VARCHAR)")
    con.execute("CREATE TABLE artifacts AS SELECT '' AS digest, '' AS name, '' AS repository, '' AS sha WHERE false")
    for column in ("run_id", "release"):
        con.execute(f"ALTER TABLE artifacts ADD COLUMN {column} VARCHAR")
    failed = f"a bundle of {DIGEST.upper().replace('SHA', 'sha')}: the store answered with status 503"
    con.executemany(
        "INSERT INTO quarantine VALUES (?, ?, ?, ?)",
        [
            ("github", "attestations", "fetch_failed", failed),
            ("github", "attestations", "missing_id", f"{DIGEST} without a bundle"),
            ("github", "attestations", "fetch_failed", "of nothing"),
            ("github", "deployments", "fetch_failed", failed),
        ],
    )
    rows = unfetched_rows(con)
    assert [row["subject_digests"] for row in rows] == [[DIGEST]]
    finished = DEPLOYMENT.finished_at
    assert finished is not None
    deployments = [
        Deployed(
            "shop", key, key, "acme/shop", "acme/shop", COMMIT, None, digest, None, finished, finished.date(), 1, COMMIT
        )
        for key, digest in (("d1", DIGEST), ("d2", "sha256:" + "00" * 32))
    ]
    known = Known({}, frozenset(), frozenset(), {}, finished, has_policy=False, process={})
    judged = list(
        judge_deployments(deployments, Artifacts(con, {}), Attestations(rows, {}), load_policies(None), known, {})
    )
    assert [one.provenance["verdict"] for one in judged] == ["ERROR_FETCH", "NO_ATTESTATION"]
    assert "could not be fetched from github" in judged[0].provenance["reason"]
    assert "status 503" in judged[0].provenance["reason"]
    assert {(finding.rule, finding.verdict) for finding in judged[0].findings} == {("readable", "ERROR_FETCH")}
