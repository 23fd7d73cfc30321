"""The commands on a whole organisation: a pause in words, and what each quarter lacks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analytics.progress import LOGGER_NAME
from analytics.sources.limits import forget_budgets
from quarterdeck.cli import main
from tests.fakes.github.faults import Fault
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, Asked, FakeGitHub
from tests.fakes.github.world import World

DAY = 86_400


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        yield server


def fill(world: World) -> None:
    """Two repositories whose lists have several pages."""
    for name in ("shop", "till"):
        at = world.repository(name)
        world.push(at)
        for number in range(101):
            world.advance(60)
            if number < 51:
                world.open_pull(at)
            run = world.start_run(at)
            run.attempts[0].status, run.attempts[0].conclusion = "completed", "success"
            world.set_status(at, world.deploy(at), "SUCCESS")
    world.advance(DAY)


def command(folder: Path, *words: str) -> Result:
    forget_budgets()
    return CliRunner().invoke(main, [*words, "--settings", str(folder / "quarterdeck.yaml")])


def questions(asked: list[Asked]) -> Counter[str]:
    """What was asked and answered, but for looks at which repositories and branches changed."""
    told = [one for one in asked if one.status == 200 and not {"login", "prefix"} & one.query.keys()]
    return Counter(f"{one.path} {one.document} {sorted(one.query.items())}" for one in told)


def test_a_pull_that_meets_the_limit_says_when_it_goes_on_and_then_reads_nothing_twice(
    tmp_path: Path, fake: FakeGitHub
) -> None:
    fill(fake.world)
    settings = workspace(tmp_path, fake, jobs_per_pull=0)
    fake.resets_at = int(fake.world.now.timestamp()) + 1800
    # The limit is met in the middle of a list.
    answered = 14
    fake.faults.add(
        Fault(403, '{"message": "API rate limit exceeded"}', {"X-RateLimit-Remaining": "0"}),
        lambda request: len(fake.asked) >= answered,
        float("inf"),
    )
    started = datetime.now(UTC)
    first = command(tmp_path, "pull", "--source", "hub")
    assert first.exit_code == 1
    assert "paused" in first.stdout
    (said,) = re.findall(r"again after (.*) UTC: it goes on from here", first.stderr)
    # As long as GitHub said by its own clock, which is not ours.
    pause = datetime.fromisoformat(f"{said}+00:00") - started
    assert timedelta(minutes=29) < pause < timedelta(minutes=40)
    before = questions(fake.asked)
    assert before.total() >= 5
    # Nothing is asked after the refusal.
    assert [one.status for one in fake.asked[answered:]] == [403]
    fake.faults.clear()
    fake.asked.clear()
    second = command(tmp_path, "pull", "--source", "hub")
    assert second.exit_code == 0
    assert before & questions(fake.asked) == Counter()
    assert difference(fake.world, landed(settings), jobs=False) == []


def test_progress_names_the_repository_and_what_is_read_of_it(
    tmp_path: Path, fake: FakeGitHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", LOGGER_NAME)
    for name in ("shop", "till"):
        fake.world.start_run(fake.world.repository(name))
    for workers in (1, 2):
        caplog.clear()
        (tmp_path / str(workers)).mkdir()
        assert pulled(workspace(tmp_path / str(workers), fake, workers=workers)).error is None
        said = {record.getMessage() for record in caplog.records}
        for entity in ("pull_requests", "pipeline_runs", "deployments", "incidents", "releases"):
            assert {f"pull: hub: {entity} of acme/shop", f"pull: hub: {entity} of acme/till"} <= said


def test_runs_that_never_came_are_missing_from_their_quarter_in_coverage_and_pack(
    tmp_path: Path, fake: FakeGitHub
) -> None:
    world = fake.world
    shop = world.repository("shop")
    for _ in range(8):
        world.advance(60)
        run = world.start_run(shop)
        run.attempts[0].status, run.attempts[0].conclusion = "completed", "success"
    world.advance(DAY)
    # The list tells of eight and shows six.
    fake.faults.add(
        Fault(
            200,
            spoil=lambda body: json.dumps({**json.loads(body), "workflow_runs": json.loads(body)["workflow_runs"][2:]}),
        ),
        lambda request: request.path.endswith("/actions/runs"),
    )
    workspace(tmp_path, fake, jobs_per_pull=0)
    for words in (["pull"], ["build"], ["measure", "--quarter", "2026-Q1"], ["pack", "--quarter", "2026-Q1"]):
        made = command(tmp_path, *words)
        assert made.exit_code == 0, made.output
    answer = json.loads(command(tmp_path, "coverage", "--format", "json").stdout)
    (row,) = [one for one in answer["completeness"] if one["entity"] == "pipeline_runs"]
    assert row == {"source": "hub", "entity": "pipeline_runs", "quarter": "2026-Q1", "landed": 6, "expected": 8}
    assert [one["complete"] for one in answer["windows"] if one["entity"] == "pipeline_runs"] == [False]
    assert re.search(r"pipeline_runs +2026-Q1 +6 +8 +75.0 %", command(tmp_path, "coverage").stdout)
    page = (tmp_path / "quarterdeck-data" / "packs" / "2026-Q1" / "quality.html").read_text("utf-8")
    (shown,) = re.findall(r"<td>pipeline runs</td><td>2026-Q1</td>.*</tr>", page)
    assert re.findall(r">([^<]+)</td>", shown)[2:] == ["6", "8", "75.0 %"]
