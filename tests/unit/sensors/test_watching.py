from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analytics.errors import LakeError, LandingError
from analytics.landing.pull import pull
from analytics.landing.store import LandingStore
from sensors.watching import critical_findings, ending_waivers, feeds_state, stale_sources
from tests.unit.sensors.ops_world import finding, workspace, write_findings

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)


# Feeds


def test_a_feed_folder_changes_with_names_sizes_and_times(tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    assert feeds_state(settings).files == 0
    feed = tmp_path / "feeds" / "deployments" / "a.jsonl"
    feed.parent.mkdir(parents=True)
    feed.write_text("{}\n")
    first = feeds_state(settings)
    assert (first.files, feeds_state(settings).digest) == (1, first.digest)
    feed.write_text("{}\n{}\n")
    grown = feeds_state(settings)
    feed.rename(feed.with_name("b.jsonl"))
    renamed = feeds_state(settings)
    os.utime(feed.with_name("b.jsonl"), (1, 1))
    assert len({first.digest, grown.digest, renamed.digest, feeds_state(settings).digest}) == 4


def test_a_file_that_just_changed_is_not_quiet_and_one_of_tomorrow_is(tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    feed = tmp_path / "feeds" / "deployments.jsonl"
    feed.parent.mkdir()
    feed.touch()
    for seconds, quiet in ((-1, False), (-60, True), (3600, True)):
        at = NOW.timestamp() + seconds
        os.utime(feed, (at, at))
        assert feeds_state(settings).is_quiet(NOW) is quiet


def test_a_link_to_nowhere_is_no_feed_file(tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "x.jsonl").symlink_to(tmp_path / "nowhere")
    assert feeds_state(workspace(tmp_path)).files == 0


# Findings


def test_no_findings_are_no_news(tmp_path: Path) -> None:
    assert critical_findings(workspace(tmp_path), None) == (None, "[]")


def test_a_critical_finding_is_told_once_and_again_when_it_came_back(tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    write_findings(settings, finding("a"), finding("m", severity="medium"), finding("w", state="waived"))
    alert, memory = critical_findings(settings, None)
    assert alert is not None
    assert alert.title == "1 new critical finding"
    assert alert.lines == ["signature: checkout, deployment 4711: no signature. Sign it (owner: payments, finding a)"]
    assert critical_findings(settings, memory) == (None, memory)
    write_findings(settings, finding("a", state="fixed"), finding("b"))
    alert, memory = critical_findings(settings, memory)
    assert alert is not None
    assert "finding b" in alert.lines[0]
    write_findings(settings, finding("a"), finding("b"))
    alert, _ = critical_findings(settings, memory)
    assert alert is not None
    assert [line[-2:] for line in alert.lines] == ["a)"]


def test_findings_that_cannot_be_read_are_an_error_for_a_reader(tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    write_findings(settings, finding("a"))
    next(settings.lake_dir.glob("findings/*/*.parquet")).write_bytes(b"PAR1 no more")
    with pytest.raises(LakeError, match=r"findings.*: a file is damaged"):
        critical_findings(settings, None)


# Waivers

WAIVERS = """
waivers:
  - {rule: runner, service: legacy, owner: ada, reason: hardware, until: 2026-10-19}
  - {rule: sbom, owner: ada, reason: later, until: 2026-10-20}
  - {rule: review, owner: bob, reason: small team, until: 2026-10-04}
"""


def test_a_waiver_is_told_when_it_ends_soon_and_when_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "waivers.yaml").write_text(WAIVERS)

    def at(now: str, memory: str | None) -> tuple[list[str], str]:
        settings = workspace(tmp_path, now=now, supply_chain={"waivers": "waivers.yaml"})
        alert, memory = ending_waivers(settings, memory)
        return list(alert.lines) if alert else [], memory

    told, memory = at("2026-10-05T12:00:00Z", None)
    assert told == [
        "ends on 2026-10-19: runner of legacy (owner: ada, waivers.yaml:3)",
        "ended on 2026-10-04: review (owner: bob, waivers.yaml:5)",
    ]
    assert at("2026-10-05T12:00:00Z", memory) == ([], memory)
    (tmp_path / "waivers.yaml").write_text(WAIVERS.replace("waivers:", "# moved\nwaivers:"))
    # In Berlin the 6th has begun.
    told, memory = at("2026-10-05T22:30:00Z", memory)
    assert [line.split(" (")[0] for line in told] == ["ends on 2026-10-20: sbom"]
    # The last day still counts; the day after it has ended.
    assert at("2026-10-19T12:00:00Z", memory)[0] == []
    assert at("2026-10-20T12:00:00Z", memory)[0] == [
        "ended on 2026-10-19: runner of legacy (owner: ada, waivers.yaml:4)"
    ]


# Sources


def test_a_source_is_stale_when_it_was_not_read_and_silent_when_nothing_came(tmp_path: Path) -> None:
    feed = tmp_path / "feeds" / "drills.jsonl"
    feed.parent.mkdir()
    feed.write_text(
        '{"service": "s", "performed_at": "2026-10-01T00:00:00Z", "kind": "rollback", "outcome": "success"}\n'
    )

    def told(after: timedelta, memory: str | None) -> tuple[str, str]:
        alert, memory = stale_sources(workspace(tmp_path, now=(NOW + after).isoformat()), memory)
        return (alert.lines[0] if alert else ""), memory

    line, memory = told(timedelta(0), None)
    assert line == "drops: was never read, or offers nothing"
    [result] = pull(workspace(tmp_path, now=NOW.isoformat()))
    assert (result.items, result.error) == (1, None)
    line, memory = told(timedelta(hours=35), memory)
    assert (line, memory) == ("", "[]")
    line, memory = told(timedelta(hours=37), memory)
    assert line == "drops: last read 37 h ago, 2026-10-05 12:00 UTC"
    assert told(timedelta(hours=40), memory)[0] == ""
    # Read again a week later, without anything new.
    pull(workspace(tmp_path, now=(NOW + timedelta(days=8)).isoformat()))
    line, memory = told(timedelta(days=8, hours=1), memory)
    assert line == "drops: is read, but gave nothing new since 2026-10-05 12:00 UTC"


def test_a_source_that_is_being_pulled_is_not_waited_for(tmp_path: Path) -> None:
    settings = workspace(tmp_path, now=NOW.isoformat())
    with LandingStore.open(settings, "drops"):
        assert stale_sources(settings, "[]") == (None, "[]")
        # What was said before is not forgotten, and not said again.
        assert stale_sources(settings, '["asked drops"]') == (None, '["asked drops"]')


def test_a_landing_file_that_is_broken_is_an_error_for_a_reader(tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    settings.landing_dir.mkdir(parents=True)
    (settings.landing_dir / "drops.duckdb").write_bytes(b"no database at all" * 1000)
    with pytest.raises(LandingError, match=r"drops.duckdb: cannot be opened"):
        stale_sources(settings, None)
