"""Making a pack: a folder of pages, assets and annex with a manifest, published by one rename and never overwritten.

Built twice from the same snapshot it is byte-identical. A pack whose contents equal the newest revision's is not made
again; other contents become the next revision. Source: reports.md section 1.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from analytics.errors import PackError
from analytics.periods import Quarter
from analytics.progress import report
from analytics.settings import Settings
from reports.annex import annex_files
from reports.contents import Contents, read_contents
from reports.formats import moment
from reports.manifest import read_manifest, verify_pack, write_manifest
from reports.pages import Pages, stamp

_STATIC = Path(__file__).parent / "static"
_MAX_RACES = 20


@dataclass(frozen=True)
class PackResult:
    """Where a pack is; `unchanged` when an earlier one with the same contents was kept."""

    path: Path
    pack_id: str
    unchanged: bool
    revision: int


def make_pack(settings: Settings, quarter: Quarter) -> PackResult:
    """Make the pack of a quarter from the published database.

    Raises PackError when the quarter was not measured or the database is missing or of another version.
    """
    contents = read_contents(settings, quarter)
    report("pack", f"read {quarter}: {len(contents.services)} services")
    texts: dict[str, str] = {}
    for path, text in Pages(contents).render():
        texts[path] = text
    report("pack", "rendered pages", len(texts), len(texts))
    for name, text in annex_files(contents.all_values, str(quarter), list(contents.definitions.values())).items():
        texts[f"annex/{name}"] = text
    assets = _assets()
    content_id = _content_id(texts, assets)
    for _ in range(_MAX_RACES):
        newest = newest_revision(settings.packs_dir, quarter)
        kept = _keep(settings.packs_dir, quarter, newest, content_id)
        if kept:
            report("pack", f"unchanged, kept {kept.path.name}")
            return kept
        made = _publish(contents, quarter, newest + 1, texts, assets, content_id)
        if made:
            report("pack", f"published {made.path.name}")
            return made
    raise PackError(
        f"another process publishes packs of {quarter} at the same time",
        where=str(settings.packs_dir),
        fix="Run `quarterdeck pack` again when it has finished.",
    )


def folder_name(quarter: Quarter, revision: int) -> str:
    """`2026-Q3`, and `2026-Q3.r1` for its first correction."""
    return f"{quarter}.r{revision}" if revision else str(quarter)


def newest_revision(packs_dir: Path, quarter: Quarter) -> int:
    """The highest revision that exists, -1 when there is none."""
    pattern = re.compile(rf"{re.escape(str(quarter))}(?:\.r([1-9]\d{{0,5}}))?")
    if not packs_dir.is_dir():
        return -1
    matches = [pattern.fullmatch(entry.name) for entry in packs_dir.iterdir()]
    return max((int(match[1] or 0) for match in matches if match), default=-1)


def _assets() -> dict[str, bytes]:
    plotly_js = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return {
        "assets/plotly.min.js": plotly_js,
        **{f"assets/{path.name}": path.read_bytes() for path in sorted(_STATIC.iterdir()) if path.is_file()},
    }


def _content_id(texts: Mapping[str, str], assets: Mapping[str, bytes]) -> str:
    """A hash over everything but cut-off, snapshot, code version and revision, which are still markers here."""
    digest = hashlib.sha256()
    for path, content in sorted({**{p: t.encode() for p, t in texts.items()}, **assets}.items()):
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _keep(packs_dir: Path, quarter: Quarter, revision: int, content_id: str) -> PackResult | None:
    """The newest pack, if it holds these contents and is whole; a damaged one is succeeded, never mended."""
    if revision < 0:
        return None
    path = packs_dir / folder_name(quarter, revision)
    try:
        document, pack_id = read_manifest(path)
        if document.get("content_id") != content_id or not verify_pack(path).ok:
            return None
    except PackError:
        return None
    return PackResult(path, pack_id, unchanged=True, revision=revision)


def _publish(
    contents: Contents,
    quarter: Quarter,
    revision: int,
    texts: Mapping[str, str],
    assets: Mapping[str, bytes],
    content_id: str,
) -> PackResult | None:
    """Write everything to a private folder and rename it into place; None when the name was taken meanwhile."""
    settings = contents.settings
    name = folder_name(quarter, revision)
    values = _stamps(contents, name, revision)
    work = settings.temp_dir / f"pack-{uuid.uuid4().hex}"
    try:
        for path, text in texts.items():
            _write(work / path, (stamp(text, values) if path.endswith(".html") else text).encode())
        for path, content in assets.items():
            _write(work / path, content)
        pack_id = write_manifest(
            work,
            {
                "organization": settings.organization,
                "quarter": str(quarter),
                "revision": revision,
                "content_id": content_id,
                "snapshot_id": contents.snapshot.get("snapshot_id", ""),
                "code_version": contents.snapshot.get("code_version", ""),
                "definitions_version": contents.definitions_version,
                "cut_off": contents.snapshot.get("cut_off", ""),
                "time_zone": settings.time_zone,
            },
        )
        settings.packs_dir.mkdir(parents=True, exist_ok=True)
        target = settings.packs_dir / name
        if target.exists():
            return None
        try:
            work.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                return None
            raise
        return PackResult(target, pack_id, unchanged=False, revision=revision)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _stamps(contents: Contents, name: str, revision: int) -> dict[str, str]:
    """What differs between two runs over the same data."""
    earlier = folder_name(Quarter.parse(contents.periods.quarter), revision - 1)
    return {
        "cut_off": _cut_off(contents),
        # The manifest holds the whole id; sixteen digits tell snapshots apart in print.
        "snapshot_id": contents.snapshot.get("snapshot_id", "not recorded")[:16],
        "code_version": contents.snapshot.get("code_version", "not recorded"),
        "pack_name": name,
        "revision_note": f" · revision {revision}, replaces {earlier}" if revision else "",
    }


def _cut_off(contents: Contents) -> str:
    """The snapshot's cut-off in the report's zone."""
    text = contents.snapshot.get("cut_off")
    if not text:
        return "not recorded"
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    naive_utc = parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed
    return moment(naive_utc, contents.settings.calendar.zone)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
