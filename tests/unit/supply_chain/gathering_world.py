"""A settings file with a feed, a folder of SBOMs, and the tables that a run leaves."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from analytics.engine import connect
from analytics.lake.parts import TableParts
from analytics.lake.tables import create_views, scratch
from analytics.settings import Settings, load_settings
from analytics.supply_chain.contents import judge_contents
from analytics.supply_chain.deployments import Judged
from analytics.supply_chain.findings import Finding
from analytics.supply_chain.joining import Deployed, Shipped
from analytics.supply_chain.rules import load_policies
from analytics.supply_chain.sbom_reading import SbomReader, Sboms, gather_sboms

DIGEST = "sha256:" + "5a" * 32
FIRST = datetime(2024, 5, 10)
NOW = datetime(2024, 6, 1)
SETTINGS = """
organization: Acme
sources:
  - {name: feed, type: files, path: feed}
supply_chain:
  sboms: ["sboms/*", "deep/**/*.json"]
"""


class World:
    """A settings file with a feed, a folder of SBOMs, and the tables that a run leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("feed/files", "sboms"):
            (folder / name).mkdir(parents=True)
        (folder / "quarterdeck.yaml").write_text(SETTINGS, encoding="utf-8")
        self.settings: Settings = load_settings(folder / "quarterdeck.yaml")
        self.records: list[dict[str, Any]] = []
        self.attested: list[tuple[str, bytes]] = []
        self.read_now = 0

    def hand_in(self, *, document: Any = None, path: str | None = None, digest: str = DIGEST) -> None:
        """A record of the entity `sboms`."""
        text = None if document is None else json.dumps(document)
        self.records.append({"digest": digest, "document": text, "path": path})

    def gather(self) -> Sboms:
        """Run the part of the stage that reads SBOMs."""
        with connect(self.settings) as con, scratch(self.settings) as folder:
            create_views(con, self.settings, "attestation_judgements", "sbom_documents", "sbom_components", "sboms")
            self._records(con)
            parts = TableParts(folder)
            reader = SbomReader(con, parts)
            for sha256, raw in self.attested:
                reader.take(sha256, raw, "attested")
            found, self.read_now = gather_sboms(con, self.settings, reader, parts)
            return found

    def findings(self, *deployed: str, service: str = "shop") -> list[Finding]:
        """What the SBOMs of these artifacts, deployed one a day in this order, give to look at."""
        policy = load_policies(self.settings.supply_chain.policies).of("acme/shop", service)
        judged = [
            Judged(Shipped(_deployed(service, number, digest), digest, "payload"), {}, (), (), policy, {})
            for number, digest in enumerate(deployed)
        ]
        sboms = self.gather()
        with connect(self.settings) as con:
            create_views(con, self.settings, "sbom_documents", "sbom_components", "commits")
            return judge_contents(self.settings, con, judged, sboms, {service: "core"}, NOW)

    def _records(self, con: duckdb.DuckDBPyConnection) -> None:
        con.execute("DROP VIEW sboms")
        con.execute(
            "CREATE TEMP TABLE sboms (source VARCHAR, origin VARCHAR, line BIGINT, digest VARCHAR, document JSON, "
            "path VARCHAR, document_sha256 VARCHAR)"
        )
        for line, one in enumerate(self.records, start=1):
            con.execute(
                "INSERT INTO sboms VALUES ('feed', 'a.jsonl', $1, $2, $3, $4, sha256($3))",
                [line, one["digest"], one["document"], one["path"]],
            )
        con.execute("DROP VIEW attestation_judgements")
        con.execute(
            "CREATE TEMP TABLE attestation_judgements (sbom_sha256 VARCHAR, bundle_sha256 VARCHAR, "
            "subject_digests VARCHAR[], proven BOOLEAN)"
        )
        for sha256, _ in self.attested:
            con.execute("INSERT INTO attestation_judgements VALUES (?, 'b0', [?], true)", [sha256, DIGEST])

    def rows(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        """Rows of a written table."""
        with connect(self.settings) as con:
            create_views(con, self.settings, table)
            return con.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()


def _deployed(service: str, number: int, digest: str) -> Deployed:
    at = FIRST + timedelta(days=number)
    return Deployed(
        service,
        f"d{number}",
        f"d{number}",
        "acme/shop",
        "acme/shop",
        "c0" * 20,
        None,
        digest,
        None,
        at,
        at.date(),
        number,
        None,
    )
