"""Writes the sample organisation to a folder: settings, catalog, policies, feeds, bundles, and what was planted.

The same parameters give the same bytes on any machine. Repositories are written one after another, so that a large
organisation needs no more memory than its largest repository.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from analytics.errors import UsageError
from analytics.progress import report
from analytics.sample.attesting import Attestor
from analytics.sample.book import Book, RawLine
from analytics.sample.declaring import SETTINGS_TEXT, STORAGE, catalog_text
from analytics.sample.feeds import FEEDS, Feeds, entity_of, open_feeds, replace_if_different
from analytics.sample.flaws import repeat_earlier_versions, spoil, strangers
from analytics.sample.organisation import (
    STRUGGLING_TEAMS,
    Estate,
    Habit,
    estates,
    live_from,
    quiet_quarter,
)
from analytics.sample.policing import policies_text, waivers_text
from analytics.sample.simulation import simulate
from analytics.sample.surroundings import survey
from analytics.sample.timeline import NOW, Timeline
from analytics.sources.entities import ENTITIES, Record

MARKER = "sample.json"
VERSION = 1
MAX_SERVICES = 2000
MAX_QUARTERS = 20
# Folders beside the feeds, each with one file for each thing in it.
_FOLDERS = ("bundles", "sboms", "roots", "osv")


@dataclass(frozen=True)
class SampleSummary:
    """What was written: distinct records and lines per entity, and the ids of everything planted, by what it is.

    `planted` names deployments by their key (run id, else deployment id; tag, release), commits by sha, incidents by
    incident_id (the pager's where told twice), components as `service package`, bad records as `file:line: what is
    wrong`.
    """

    target: Path
    seed: int
    services: list[str]
    quarters: list[str]
    records: dict[str, int]
    lines: dict[str, int]
    planted: dict[str, list[str]] = field(repr=False)


def write_sample(target: Path, seed: int = 2026, services: int = 12, quarters: int = 8) -> SampleSummary:
    """Write a sample organisation: settings, catalog, policies, waivers, `feeds/`, bundles, SBOMs, roots, OSV records.

    The marker `sample.json` tells the folder from others.

    An earlier sample with the same parameters keeps its bytes. Raises UsageError when a number is out of range, when
    the folder holds anything but a sample, or when data was pulled from a sample with other parameters.
    """
    for name, value, most in (("services", services, MAX_SERVICES), ("quarters", quarters, MAX_QUARTERS)):
        if not 1 <= value <= most:
            raise UsageError(f"{name} is {value}", fix=f"Give a number from 1 to {most}.")
    marker = {"quarterdeck_sample": VERSION, "seed": seed, "services": services, "quarters": quarters}
    _claim(target, marker)
    # The marker comes first: a sample that was interrupted can be written again.
    _put(target / MARKER, json.dumps(marker, indent=2) + "\n")
    timeline = Timeline(quarters)
    found = estates(seed, services)
    habits = [habit for estate in found for habit in estate.habits if habit.name in estate.declared]
    planted = _planted_by_plan(habits, timeline)
    records: Counter[str] = Counter()
    attestor = Attestor(seed, timeline)
    written = _put_files(target, attestor.files())
    with open_feeds(target / "feeds") as feeds:
        for index, estate in enumerate(found):
            report("sample", "repositories", index, len(found))
            book = simulate(seed, estate, timeline)
            attestor.attest(estate, book)
            written |= _put_files(target, book.files)
            _sort(book)
            records += _spoiled(book, estate, timeline) if index == 0 else _distinct(book)
            _write(book, feeds, planted)
        for book in (strangers(timeline), survey(seed, list(dict.fromkeys(h.team for h in habits)), timeline)):
            records += _distinct(book)
            _write(book, feeds, planted)
        lines = {entity_of(feed): feeds.lines[entity_of(feed)] for feed in FEEDS}
    report("sample", "repositories", len(found), len(found))
    _remove_others(target, written)
    _put(target / "catalog.yaml", catalog_text(habits, timeline))
    _put(target / "policies.yaml", policies_text(timeline))
    _put(target / "waivers.yaml", waivers_text())
    _put(target / "quarterdeck.yaml", SETTINGS_TEXT)
    return SampleSummary(
        target=target,
        seed=seed,
        services=[habit.name for habit in habits],
        quarters=[str(quarter) for quarter in timeline.quarters],
        records={entity: records[entity] for entity in lines},
        lines=lines,
        planted=dict(sorted(planted.items())),
    )


def _claim(target: Path, marker: Mapping[str, int]) -> None:
    """Make sure that the folder is new, empty, or an earlier sample that may be written again."""
    if target.exists() and not target.is_dir():
        raise UsageError("is a file", where=str(target), fix="Name a folder that is new or empty.")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot be made ({error.strerror})", where=str(target), fix="Name a folder that you may write to."
        ) from error
    if not any(target.iterdir()):
        return
    try:
        earlier: Any = json.loads((target / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = None
    if not isinstance(earlier, dict) or "quarterdeck_sample" not in earlier:
        raise UsageError(
            "holds files that are no sample; nothing was written",
            where=str(target),
            fix="Name a folder that is new or empty.",
        )
    if earlier != marker and (target / STORAGE).exists():
        before = ", ".join(f"{key} {earlier.get(key)}" for key in ("seed", "services", "quarters"))
        raise UsageError(
            f"holds a sample with other parameters ({before}) and data that was pulled from it",
            where=str(target),
            fix=f"Name another folder, or remove {target / STORAGE} first: both samples would be counted together.",
        )


def _put(path: Path, content: str | bytes) -> None:
    draft = path.with_name(f".{path.name}.writing")
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    replace_if_different(draft, path)
    draft.unlink(missing_ok=True)


def _put_files(target: Path, files: Mapping[str, bytes]) -> set[Path]:
    """Write files by their path below the folder; their whole paths."""
    written = {target / name: content for name, content in files.items()}
    for folder in {path.parent for path in written}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, content in written.items():
        _put(path, content)
    return set(written)


def _remove_others(target: Path, written: set[Path]) -> None:
    """Remove what an earlier sample with other parameters left in the folders of files."""
    for name in _FOLDERS:
        for path in sorted((target / name).rglob("*"), reverse=True):
            if path.is_file() and path not in written:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _distinct(book: Book) -> Counter[str]:
    counts: Counter[str] = Counter()
    for feed, records in book.records.items():
        counts[entity_of(feed)] += len(records)
    return counts


def _spoiled(book: Book, estate: Estate, timeline: Timeline) -> Counter[str]:
    """Let the first repository's feeds repeat some records and hold some bad ones; neither is counted."""
    counts = _distinct(book)
    repeat_earlier_versions(book)
    spoil(book, estate.repository, timeline)
    return counts


def _sort(book: Book) -> None:
    """Put each feed into the order of time, as an export would; equal times keep the order of writing."""
    for feed, records in book.records.items():
        by = ENTITIES[entity_of(feed)].occurred_at

        def when(record: Record | RawLine, by: str | None = by) -> datetime:
            at = getattr(record, by) if by else NOW
            return at if isinstance(at, datetime) else NOW

        records.sort(key=when)


def _write(book: Book, feeds: Feeds, planted: dict[str, list[str]]) -> None:
    for feed in FEEDS:
        for record in book.records.get(feed, ()):
            line = feeds.write(feed, record)
            if isinstance(record, RawLine):
                planted.setdefault("bad_records", []).append(f"{FEEDS[feed]}:{line}: {record.reason}")
    for name, ids in book.planted.items():
        planted.setdefault(name, []).extend(ids)


def _planted_by_plan(habits: list[Habit], timeline: Timeline) -> dict[str, list[str]]:
    """What the organisation's make-up itself plants: who went live, who was quiet, who got worse and when."""
    planted: dict[str, list[str]] = {}
    for habit in habits:
        quiet, began = quiet_quarter(habit, timeline), live_from(habit, timeline)
        if quiet is not None:
            planted.setdefault("without_deployments", []).append(f"{habit.name} {timeline.quarters[quiet]}")
        if began is not None:
            planted.setdefault("went_live", []).append(f"{habit.name} {timeline.day(began)}")
        if timeline.worse_quarter is not None and habit.first_block and habit.team in STRUGGLING_TEAMS:
            planted.setdefault("got_worse", []).append(f"{habit.name} {timeline.quarters[timeline.worse_quarter]}")
        if habit.staging:
            planted.setdefault("unmapped_environments", []).append(f"{habit.name} staging")
    return planted
