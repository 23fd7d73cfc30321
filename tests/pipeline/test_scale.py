"""The generated organisation of `make bench`, small: it runs, nothing is refused, and plain SQL counts the same.

The oracle reads the Parquet feeds themselves, so that it shares nothing with landing, lake and facts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.__main__ import main
from benchmarks.feeds import Size, write_feeds, write_settings

pytestmark = pytest.mark.slow

SIZE = Size(attempts=60_000, services=12)
QUARTERS = [f"{year}-Q{number}" for year in (2025, 2026) for number in (1, 2, 3)]
COUNTED = "('success', 'failure', 'timed_out', 'startup_failure')"
# Days are cut in the zone of the organisation's settings.
QUARTER_OF = "strftime(timezone('Europe/Berlin', {}), '%Y') || '-Q' || quarter(timezone('Europe/Berlin', {}))"
# metric: subject's (numerator, denominator) by quarter, straight from a feed.
ORACLES = {
    "pipeline_success_rate": (
        "pipeline_runs",
        "created_at",
        f"count(*) FILTER (conclusion = 'success'), count(*) FILTER (conclusion IN {COUNTED})",
        "attempt = 1",
    ),
    "pipeline_rerun_rate": (
        "pipeline_runs",
        "created_at",
        "count(*) FILTER (attempt > 1), count(*) FILTER (attempt = 1)",
        "true",
    ),
    "deployment_success_rate": (
        "deployments",
        "finished_at",
        "count(*) FILTER (status = 'success'), count(*)",
        "true",
    ),
}


@pytest.fixture(scope="module")
def organization(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., str]) -> Path:
    """The organisation, pulled, built and measured."""
    folder = tmp_path_factory.mktemp("scale") / "organization"
    settings = write_settings(folder, SIZE)
    write_feeds(folder, SIZE, seed=11)
    for stage in ("pull", "build", "measure"):
        run(settings, [stage])
    return folder


@pytest.fixture(scope="module")
def run() -> Callable[..., str]:
    """Runs a command in this process."""
    from click.testing import CliRunner

    from quarterdeck.cli import main as quarterdeck

    def run_command(settings: Path, words: list[str]) -> str:
        result = CliRunner().invoke(quarterdeck, [*words, "--settings", str(settings)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run_command


@pytest.mark.parametrize("metric", ORACLES)
def test_a_count_over_all_rows_agrees_with_plain_sql_over_the_feed(
    metric: str, organization: Path, run: Callable[..., str]
) -> None:
    entity, moment, counts, where = ORACLES[metric]
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        expected = {
            quarter: (hits, trials)
            for quarter, hits, trials in con.execute(
                f"SELECT {QUARTER_OF.format(moment, moment)} AS quarter, {counts} "
                f"FROM read_parquet('{organization}/feeds/{entity}/*.parquet') WHERE {where} GROUP BY 1"
            ).fetchall()
        }
    found = {}
    for quarter in QUARTERS:
        words = ["metrics", "--quarter", quarter, "--scope", "organization", "--format", "json"]
        values: list[dict[str, Any]] = json.loads(run(organization / "quarterdeck.yaml", words))
        (value,) = [value for value in values if value["metric"] == metric]
        found[quarter] = (value["numerator"], value["denominator"])
    assert found == {quarter: expected[quarter] for quarter in QUARTERS}


def test_the_benchmark_prints_every_stage_and_both_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--attempts", "20000", "--services", "4", "--out", str(tmp_path)])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("pull", "build", "measure"))] == [
        "pull",
        "build",
        "measure",
    ] * 2
    assert len([line for line in lines if line.startswith(("PASS", "FAIL"))]) == 2
    assert not list(tmp_path.iterdir()), "files are kept only with --keep"
