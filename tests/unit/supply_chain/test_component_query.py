"""The query of docs/security.md: which services still run a component."""

import re
from pathlib import Path

import duckdb

from analytics.lake.schemas import TABLES

DOCS = Path(__file__).resolve().parents[3] / "docs" / "security.md"
LOG4J = "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"


def answer(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str | None]]:
    """Service, digest and package URL of each row of the documented query."""
    found = re.search(r"<!-- components -->\n```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return [(row[0], row[1], row[5]) for row in con.execute(found[1]).fetchall()]


def test_the_newest_deployment_of_each_service_counts_and_what_is_unknown_is_said() -> None:
    with duckdb.connect() as con:
        for name in ("deployment_provenance", "sbom_components"):
            columns = ", ".join(f'"{column}" {kind}' for column, kind in TABLES[name].columns.items())
            con.execute(f"CREATE TABLE {name} ({columns})")
        for service, key, digest, sbom, at in (
            ("updated", "1", "sha256:a", "with", "2026-01-01"),
            ("updated", "2", "sha256:b", "without", "2026-01-02"),
            ("behind", "1", "sha256:c", "with", "2026-01-01"),
            ("unknown", "1", "sha256:d", "with", "2026-01-01"),
            ("unknown", "2", "sha256:e", None, "2026-01-02"),
            # Two artifacts of one deployment.
            ("both", "1", "sha256:f", "with", "2026-01-01"),
            ("both", "1", "sha256:g", "without", "2026-01-01"),
        ):
            con.execute(
                "INSERT INTO deployment_provenance (service, deployment_key, digest, sbom_sha256, finished_at) "
                "VALUES (?, ?, ?, ?, ?)",
                [service, key, digest, sbom, at],
            )
        for sbom, purl in (("with", LOG4J), ("with", "pkg:npm/left-pad@1.0.0"), ("without", "pkg:npm/left-pad@1.0.0")):
            con.execute("INSERT INTO sbom_components (sbom_sha256, purl) VALUES (?, ?)", [sbom, purl])
        assert answer(con) == [
            ("behind", "sha256:c", LOG4J),
            ("both", "sha256:f", LOG4J),
            ("unknown", "sha256:e", "unknown: no valid SBOM"),
        ]


def test_what_it_asks_is_published() -> None:
    assert all(TABLES[name].published for name in ("deployment_provenance", "sbom_components"))
