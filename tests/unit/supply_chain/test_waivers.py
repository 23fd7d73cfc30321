"""Waivers cover what they name until their day ends, and a file that leaves somebody out is refused."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from analytics.errors import SettingsError
from analytics.supply_chain.waivers import Waiver, load_waivers, state_of

NOW = datetime(2026, 10, 5, 6, 0, tzinfo=UTC)
DIGEST = "sha256:" + "5a" * 32


@dataclass(frozen=True)
class Finding:
    id: str = "F-1"
    rule: str = "runner"
    service: str | None = "checkout"
    deployment_id: str | None = "d-17"
    digest: str | None = DIGEST


def waivers(tmp_path: Path, text: str) -> tuple[Waiver, ...]:
    path = tmp_path / "waivers.yaml"
    path.write_text(text, encoding="utf-8")
    return load_waivers(path)


def waiver(until: str = "2026-12-31", **matchers: str) -> Waiver:
    return Waiver.model_validate({"owner": "ann", "reason": "because", "until": until} | matchers)


def test_a_finding_without_a_waiver_is_open() -> None:
    state = state_of(Finding(), [], NOW)
    assert (state.state, str(state)) == ("open", "open")


@pytest.mark.parametrize(
    "matchers",
    [
        {"id": "F-1"},
        {"rule": "runner"},
        {"rule": "run*"},
        {"rule": "runner", "service": "Check*"},
        {"deployment": "d-17"},
        {"digest": DIGEST.upper()},
        {"rule": "runner", "service": "checkout", "deployment": "d-*", "digest": DIGEST, "id": "F-1"},
    ],
)
def test_a_waiver_covers_what_it_names(matchers: dict[str, str]) -> None:
    state = state_of(Finding(), [waiver(**matchers)], NOW)
    assert (state.state, state.until) == ("waived", date(2026, 12, 31))
    assert str(state) == "waived until 2026-12-31"
    assert state.waiver is not None
    assert state.waiver.owner == "ann"


@pytest.mark.parametrize(
    "matchers",
    [
        {"id": "F-2"},
        {"id": "F-*"},
        {"rule": "run"},
        {"rule": "runner", "service": "cart"},
        {"rule": "runner", "deployment": "d-18"},
        {"rule": "runner", "digest": "sha256:" + "00" * 32},
    ],
)
def test_a_waiver_covers_nothing_else(matchers: dict[str, str]) -> None:
    assert state_of(Finding(), [waiver(**matchers)], NOW).state == "open"


def test_a_finding_that_has_no_service_is_covered_by_no_service() -> None:
    assert state_of(Finding(service=None), [waiver(rule="runner", service="*")], NOW).state == "open"
    assert state_of(Finding(digest=None), [waiver(digest=DIGEST)], NOW).state == "open"


def test_a_waiver_holds_through_its_last_day_and_then_reopens() -> None:
    last = waiver("2026-10-05", rule="runner")
    assert state_of(Finding(), [last], NOW.replace(hour=23, minute=59)).state == "waived"
    state = state_of(Finding(), [last], NOW + timedelta(days=1))
    assert (state.state, state.expired, state.waiver) == ("open", last, None)


def test_the_day_is_that_of_the_reports_zone() -> None:
    last = waiver("2026-10-05", rule="runner")
    late = datetime(2026, 10, 5, 23, 0, tzinfo=UTC)
    assert state_of(Finding(), [last], late).state == "waived"
    assert state_of(Finding(), [last], late.astimezone(timezone(timedelta(hours=2)))).state == "open"


def test_of_several_waivers_the_longest_counts() -> None:
    ended, soon, later = (waiver(f"2026-{month}-01", rule="runner") for month in ("09", "11", "12"))
    assert state_of(Finding(), [later, ended, soon], NOW).waiver is later
    assert state_of(Finding(), [ended], NOW).expired is ended


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    read = waivers(
        tmp_path,
        """\
waivers:
  - rule: runner
    owner: ann
    reason: moves in spring
    until: 2026-12-31
  - {id: F-9, owner: bob, reason: false alarm, until: '2027-01-01'}
""",
    )
    assert [(item.owner, item.until, item.where) for item in read] == [
        ("ann", date(2026, 12, 31), "waivers.yaml:2"),
        ("bob", date(2027, 1, 1), "waivers.yaml:6"),
    ]


def test_no_file_and_an_empty_file_waive_nothing(tmp_path: Path) -> None:
    assert load_waivers(None) == ()
    assert waivers(tmp_path, "# none\n") == ()
    assert waivers(tmp_path, "waivers: []\n") == ()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{rule: runner, reason: r, until: 2026-12-31}", ["owner", "Field required"]),
        ("{rule: runner, owner: o, until: 2026-12-31}", ["reason", "Field required"]),
        ("{rule: runner, owner: o, reason: r}", ["until", "Field required"]),
        ("{rule: runner, owner: '  ', reason: r, until: 2026-12-31}", ["owner", "at least 1 character"]),
        ("{rule: runner, owner: o, reason: '', until: 2026-12-31}", ["reason", "at least 1 character"]),
        ("{rule: runner, owner: o, reason: r, until: soon}", ["until", "date"]),
        ("{rule: runner, owner: o, reason: r, untill: 2026-12-31}", ["'untill'", "Did you mean 'until'?"]),
        ("{rule: runner, where: x, owner: o, reason: r, until: 2026-12-31}", ["'where'"]),
        ("{owner: o, reason: r, until: 2026-12-31}", ["say what is waived"]),
        ("{service: checkout, owner: o, reason: r, until: 2026-12-31}", ["say what is waived"]),
    ],
)
def test_a_wrong_entry_is_refused_with_its_line(tmp_path: Path, entry: str, said: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        waivers(tmp_path, f"version: 1\nwaivers:\n  - {entry}\n")
    for part in ("waivers.yaml:3", *said):
        assert part in str(caught.value)
