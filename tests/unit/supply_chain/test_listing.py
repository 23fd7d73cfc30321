"""`quarterdeck findings` reads what the last `verify` left, in the shape of contract.md section 6."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from analytics.lake.parts import POLARS
from analytics.lake.schemas import TABLES
from quarterdeck.cli import main

KEYS = {
    *("id", "rule", "verdict", "severity", "state", "service", "deployment_id", "digest", "join", "bundle_sha256"),
    *("reason", "remediation", "owner", "first_seen", "last_seen", "waiver"),
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quarterdeck.yaml").write_text(
        "{organization: Acme, now: 2026-07-10T00:00:00Z, time_zone: Europe/Berlin, storage: data}", encoding="utf-8"
    )
    return tmp_path


def write(workspace: Path, table: str, *rows: dict[str, Any]) -> None:
    folder = workspace / "data" / "lake" / table / "quarter=undated"
    folder.mkdir(parents=True)
    schema = {name: POLARS[kind] for name, kind in TABLES[table].columns.items()}
    pl.DataFrame(list(rows), schema=schema, orient="row").write_parquet(folder / "part-0000.parquet")


def finding(number: int, first_seen: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"F-{number}",
        "rule": "signature",
        "severity": "high",
        "state": "open",
        "service": "shop",
        "deployment_key": f"key-{number}",
        "join_kind": "payload",
        "reason": "\x1b[31mred",
        "remediation": "Look.",
        "first_seen": datetime.fromisoformat(first_seen),
        "last_seen": datetime(2026, 7, 10),
        "is_live": True,
    } | fields


def findings(*words: str) -> Result:
    return CliRunner().invoke(main, ["findings", *words])


def ids(*words: str) -> list[str]:
    result = findings(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    return [one["id"] for one in json.loads(result.stdout)]


def test_before_verify_it_says_what_to_run(workspace: Path) -> None:
    result = findings()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Run `quarterdeck verify`" in result.stderr


def test_no_finding_is_an_empty_list(workspace: Path) -> None:
    write(workspace, "verification", {"key": "cut_off", "value": "2026-07-10T00:00:00Z"})
    assert ids() == []
    assert findings().stdout == "No findings.\n"


def test_open_ones_come_first_and_the_gravest_first(workspace: Path) -> None:
    write(workspace, "verification", {"key": "cut_off", "value": "x"})
    write(
        workspace,
        "findings",
        finding(1, "2026-05-01", state="fixed", severity="critical"),
        finding(2, "2026-05-01", severity="low"),
        finding(3, "2026-05-01", severity="critical"),
        finding(4, "2026-05-01", state="waived", severity="high"),
    )
    assert ids() == ["F-3", "F-2", "F-4", "F-1"]
    table = findings().stdout
    assert table.endswith("4 findings: 2 open, 1 waived, 1 fixed\n")
    assert "\x1b" not in table


def test_a_long_reason_is_cut_in_the_table_alone(workspace: Path) -> None:
    long = "It does not hold, " * 30
    write(workspace, "verification", {"key": "cut_off", "value": "x"})
    write(workspace, "findings", finding(1, "2026-05-01T10:00:00", reason=long))
    (line,) = [line for line in findings().stdout.splitlines() if "F-1" in line]
    assert line.index("F-1") < 200
    assert "…" in line
    (one,) = json.loads(findings("--format", "json").stdout)
    assert one["reason"] == long
    assert long.strip() in findings("--format", "sarif").stdout


def test_each_finding_has_the_fields_of_the_contract(workspace: Path) -> None:
    write(workspace, "verification", {"key": "cut_off", "value": "x"})
    write(workspace, "findings", finding(1, "2026-05-01T10:00:00", digest="sha256:" + "5a" * 32))
    (one,) = json.loads(findings("--format", "json").stdout)
    assert one.keys() >= KEYS
    assert (one["join"], one["first_seen"]) == ("payload", "2026-05-01T10:00:00Z")


def test_a_quarter_has_the_findings_of_what_was_deployed_in_it(workspace: Path) -> None:
    write(workspace, "verification", {"key": "cut_off", "value": "x"})
    write(
        workspace,
        "findings",
        finding(1, "2026-03-31T21:59:00"),
        # Local midnight in Berlin.
        finding(2, "2026-03-31T22:00:00"),
        # Of a component that stayed from one deployment to another.
        finding(3, "2026-01-10", rule="vulnerability"),
    )
    write(
        workspace,
        "deployment_provenance",
        {"service": "shop", "deployment_key": "key-3", "finished_at": datetime(2026, 6, 1)},
        {"service": "cart", "deployment_key": "key-1", "finished_at": datetime(2026, 6, 1)},
    )
    assert ids("--quarter", "2026-Q1") == ["F-3", "F-1"]
    assert ids("--quarter", "2026-Q2") == ["F-3", "F-2"]
    assert ids("--quarter", "2026-Q3") == []
    assert findings("--quarter", "2026-Q4").exit_code == 2
