"""The shelf of packs: which there are, and what differs between one and the one before it.

Packs never change; `index.html` and `compare/` beside them are written anew. A pack that was tampered with is read as
what it is: sizes are capped, and names are escaped. Source: reports.md section 1, item 25.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from analytics.errors import PackError
from analytics.periods import Quarter
from analytics.settings import Settings
from reports import formats
from reports.manifest import read_manifest
from reports.published import Definition, MetricValue
from reports.scorecard import LEADING, measure_order
from reports.signing import BUNDLE_NAME, ENVELOPE_NAME
from reports.tables import printable

LOG = logging.getLogger("analytics.pack")

MAX_ANNEX_BYTES = 64 * 1024 * 1024
CHANGES_SHOWN = 300
_NAME = re.compile(r"(\d{4}-Q[1-4])(?:\.r([1-9]\d{0,5}))?")
_HERE = Path(__file__).parent


@dataclass(frozen=True, order=True)
class PackName:
    """A pack's quarter and revision, in the order of packs."""

    quarter: str
    revision: int

    def __str__(self) -> str:
        return f"{self.quarter}.r{self.revision}" if self.revision else self.quarter


@dataclass(frozen=True)
class Shelved:
    """One pack on the shelf; `before` is the one it is compared with, `problem` why it cannot be read."""

    name: PackName
    cut_off: str
    snapshot_id: str
    pack_id: str
    files: int
    signed: bool
    missing: tuple[str, ...]
    before: PackName | None
    problem: str | None = None


@dataclass(frozen=True)
class Moved:
    """A value in two packs, in words."""

    title: str
    of: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """What differs between two packs."""

    before: str
    after: str
    headline: Sequence[Moved]
    restated: Sequence[Moved]
    restated_total: int
    definitions: Sequence[Moved]
    opened: Sequence[Mapping[str, Any]]
    closed: Sequence[Mapping[str, Any]]
    came: Sequence[str]
    went: Sequence[str]
    files: Sequence[tuple[str, int]]


def folder_name(quarter: Quarter, revision: int) -> str:
    """`2026-Q3`, and `2026-Q3.r1` for its first correction."""
    return str(PackName(str(quarter), revision))


def names_on_shelf(packs_dir: Path) -> list[PackName]:
    """Every pack by its folder's name, oldest quarter and revision first."""
    if not packs_dir.is_dir():
        return []
    found = [_NAME.fullmatch(entry.name) for entry in packs_dir.iterdir() if entry.is_dir()]
    return sorted(PackName(match[1], int(match[2] or 0)) for match in found if match)


def newest_revision(packs_dir: Path, quarter: Quarter) -> int:
    """The highest revision that exists, -1 when there is none."""
    return max((one.revision for one in names_on_shelf(packs_dir) if one.quarter == str(quarter)), default=-1)


def read_shelf(packs_dir: Path) -> list[Shelved]:
    """All packs, newest first; one whose manifest cannot be read says why."""
    names = names_on_shelf(packs_dir)
    shelf = []
    for index, name in enumerate(names):
        folder = packs_dir / str(name)
        before = names[index - 1] if index else None
        try:
            document, pack_id = read_manifest(folder)
        except PackError as error:
            shelf.append(Shelved(name, "", "", "", 0, False, (), None, error.what))
            continue
        files = document.get("files")
        missing = document.get("missing")
        shelf.append(
            Shelved(
                name,
                _day_and_time(str(document.get("cut_off", ""))[:40]),
                str(document.get("snapshot_id", ""))[:16],
                pack_id,
                len(files) if isinstance(files, list) else 0,
                (folder / ENVELOPE_NAME).is_file() or (folder / BUNDLE_NAME).is_file(),
                tuple(map(str, missing)) if isinstance(missing, list) else (),
                before,
            )
        )
    return shelf[::-1]


def _day_and_time(text: str) -> str:
    """A time of a manifest to the minute, in UTC; as it stands where it is none."""
    try:
        at = datetime.fromisoformat(text)
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at.tzinfo else text
    except (ValueError, OverflowError):
        return text


def write_shelf(settings: Settings, folder: Path | None = None) -> Path:
    """Write `index.html` of all packs of a folder, and the comparisons that are not there yet; gives the index."""
    packs = folder or settings.packs_dir
    environment = _environment(settings)
    shelf = read_shelf(packs)
    readable = {one.name for one in shelf if one.problem is None}
    for one in shelf:
        if one.before is None or one.before not in readable or one.problem is not None:
            continue
        page = packs / "compare" / f"{one.before}..{one.name}.html"
        if not page.exists():
            try:
                difference = compare(packs / str(one.before), packs / str(one.name))
                text = environment.get_template("compare.html").render(difference=difference, root="../")
            except (PackError, TypeError, ValueError, KeyError, AttributeError) as error:
                # An annex that somebody changed holds anything: the packs stay, and are listed without a comparison.
                LOG.warning("%s and %s cannot be compared: %s", one.before, one.name, error)
                continue
            _write(page, text)
    _write(packs / "assets" / "pack.css", (_HERE / "static" / "pack.css").read_text(encoding="utf-8"))
    shown = [
        (one, where if (packs / (where := f"compare/{one.before}..{one.name}.html")).is_file() else None)
        for one in shelf
    ]
    index = packs / "index.html"
    _write(index, environment.get_template("shelf.html").render(shelf=shown, root=""))
    return index


def compare(before: Path, after: Path) -> Difference:
    """What differs between two packs; raises PackError when either annex cannot be read."""
    definitions = {
        name: {row["metric"]: row for row in _annex(folder, "definitions")}
        for name, folder in (("before", before), ("after", after))
    }
    old_values, new_values = _values(before, "metric_values"), _values(after, "metric_values")
    old_all = {**_values(before, "metric_history"), **old_values}
    new_all = {**_values(after, "metric_history"), **new_values}
    known = definitions["after"]
    headline = []
    for key in sorted(new_values, key=lambda one: measure_order(one[0])):
        metric, scope, name, _, series = key
        if scope != "organization" or metric not in LEADING or series not in (None, "human"):
            continue
        earlier = next(
            (value for (m, s, n, _, x), value in old_values.items() if (m, s, n, x) == (metric, scope, name, series)),
            None,
        )
        headline.append(_moved(metric, name, earlier, new_values[key], known))
    changed = [
        _moved(key[0], f"{key[2]} ({key[1]}), {key[3]}{f', {key[4]}' if key[4] else ''}", old, new_all[key], known)
        for key, old in sorted(old_all.items(), key=lambda pair: tuple(map(str, pair[0])))
        if key in new_all
        and (old.value, old.n, old.reason) != (new_all[key].value, new_all[key].n, new_all[key].reason)
    ]
    old_open = {row["id"]: row for row in _annex(before, "findings") if row.get("state") == "open"}
    new_open = {row["id"]: row for row in _annex(after, "findings") if row.get("state") == "open"}
    services = [
        {row["name"] for row in _annex(folder, "metric_values") if row.get("scope") == "service"}
        for folder in (before, after)
    ]
    return Difference(
        before.name,
        after.name,
        headline,
        changed[:CHANGES_SHOWN],
        len(changed),
        list(_definition_changes(definitions["before"], definitions["after"])),
        [row for key, row in new_open.items() if key not in old_open],
        [row for key, row in old_open.items() if key not in new_open],
        sorted(map(str, services[1] - services[0])),
        sorted(map(str, services[0] - services[1])),
        _file_changes(before, after),
    )


def _moved(
    metric: str, of: str, before: MetricValue | None, after: MetricValue, known: Mapping[str, Mapping[str, Any]]
) -> Moved:
    row = known.get(metric)
    if row is None:
        return Moved(metric, of, _number(before), _number(after), after.reading or "")
    definition = Definition(
        metric=metric,
        title=str(row.get("title") or metric),
        unit=str(row.get("unit") or ""),
        direction=row.get("direction"),
        statistic=str(row.get("statistic") or ""),
        minimum_n=row.get("minimum_n"),
        definition="",
        version=1,
    )
    earlier = formats.show(before, definition).sentence if before is not None else "not measured"
    return Moved(definition.title, of, earlier, formats.show(after, definition).sentence, after.reading or "")


def _number(value: MetricValue | None) -> str:
    return "not measured" if value is None or value.value is None else formats.number(value.value, 2)


def _definition_changes(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterator[Moved]:
    for metric in sorted({*before, *after}, key=measure_order):
        old, new = before.get(metric), after.get(metric)
        title = str((new or old or {}).get("title") or metric)
        if old is None or new is None:
            yield Moved(title, metric, "not measured" if old is None else "measured", "measured" if new else "gone")
        elif (old.get("version"), old.get("definition")) != (new.get("version"), new.get("definition")):
            yield Moved(
                title,
                metric,
                f"version {old.get('version')}",
                f"version {new.get('version')}",
                str(new.get("definition")),
            )


def _file_changes(before: Path, after: Path) -> list[tuple[str, int]]:
    """How many files are the same, changed, new and gone."""
    listed = []
    for folder in (before, after):
        document, _ = read_manifest(folder)
        files = document.get("files")
        listed.append(
            {
                str(one.get("path")): one.get("sha256")
                for one in (files if isinstance(files, list) else [])
                if isinstance(one, dict)
            }
        )
    old, new = listed
    both = set(old) & set(new)
    same = sum(1 for path in both if old[path] == new[path])
    return [
        ("the same", same),
        ("changed", len(both) - same),
        ("new", len(set(new) - set(old))),
        ("gone", len(set(old) - set(new))),
    ]


def _values(folder: Path, table: str) -> dict[tuple[str, str, str, str, str | None], MetricValue]:
    found = {}
    for row in _annex(folder, table):
        try:
            value = MetricValue(
                **{name: row.get(name) for name in _VALUE_FIELDS}  # type: ignore[arg-type]
            )
        except TypeError:
            continue
        found[value.metric, value.scope, value.name, value.quarter, value.series] = value
    return found


_VALUE_FIELDS = (
    "metric",
    "scope",
    "name",
    "quarter",
    "series",
    "value",
    "unit",
    "n",
    "numerator",
    "denominator",
    "low",
    "high",
    "open",
    "reason",
    "reading",
    "definition",
)


def _annex(folder: Path, table: str) -> list[dict[str, Any]]:
    """The rows of an annex table; none where an earlier version did not write it."""
    path = folder / "annex" / f"{table}.json"
    try:
        if path.stat().st_size > MAX_ANNEX_BYTES:
            raise PackError(f"is larger than {MAX_ANNEX_BYTES} bytes", where=str(path))
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(f"cannot be read: {type(error).__name__}", where=str(path)) from error
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _environment(settings: Settings) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value, keep="\n\t") if type(value) is str else value,
    )
    environment.filters.update(count=formats.quantity, words=lambda text: str(text).replace("_", " "))
    environment.globals.update(
        settings=settings,
        title=settings.reports.title or f"{settings.organization}: software delivery",
    )
    return environment


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{uuid.uuid4().hex}")
    work.write_text(text, encoding="utf-8")
    work.replace(path)
