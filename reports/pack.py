"""Making a pack: a folder of pages, assets and annex with a manifest, published by one rename and never overwritten.

Built twice from the same snapshot it is byte-identical. A pack whose contents equal the newest revision's is not made
again; other contents become the next revision. Source: reports.md section 1.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from analytics.errors import PackError
from analytics.periods import Quarter
from analytics.progress import report
from analytics.settings import Settings
from reports.annex import annex_files
from reports.contents import Contents, read_contents
from reports.editions import expected_missing, mail_texts, make_editions, printed_notes, printed_texts
from reports.formats import moment
from reports.manifest import MANIFEST_NAME, read_manifest, verify_pack, write_manifest
from reports.pages import Pages
from reports.rendering import stamp
from reports.shelf import folder_name, newest_revision, write_shelf
from reports.signing import BUNDLE_NAME, PrivateKey, key_id, keyless_bundle, load_private_key, signature_files

LOG = logging.getLogger("analytics.pack")

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

    Raises PackError when the quarter was not measured, the database is missing or of another version, or the signing
    key cannot be used. What only print and mail need may be missing: the pack says so.
    """
    key = load_private_key(settings.reports.signing_key) if settings.reports.signing_key else None
    contents = read_contents(settings, quarter)
    report("pack", f"read {quarter}: {len(contents.services)} services")
    pages = Pages(contents)
    texts = dict(pages.render())
    report("pack", "rendered pages", len(texts), len(texts))
    fixed = {**_assets(), **{f"annex/{name}": content for name, content in annex_files(contents).items()}}
    signer = key_id(key.public_key()) if key else "keyless" if settings.reports.keyless else "none"
    rendered = {**texts, **printed_texts(pages, {}), **mail_texts(pages, [])}

    def content_id(missing: Sequence[str]) -> str:
        return _content_id(rendered, fixed, [f"signed by {signer}", *sorted(missing)])

    expected = content_id(expected_missing(settings.reports.printed))
    for _ in range(_MAX_RACES):
        newest = newest_revision(settings.packs_dir, quarter)
        kept = _keep(settings.packs_dir, quarter, newest, expected)
        if kept:
            return _kept(settings, kept)
        values = _stamps(contents, folder_name(quarter, newest + 1), newest + 1)
        made = make_editions(pages, values)
        actual = content_id(made.missing)
        if actual != expected:
            # A browser that was found and then failed: what it left out may be what the newest pack lacks too.
            kept = _keep(settings.packs_dir, quarter, newest, actual)
            if kept:
                return _kept(settings, kept)
        parts = PackParts(texts, {**fixed, **made.files}, tuple(made.missing), actual, values)
        published = _publish(contents, quarter, newest + 1, parts, key)
        if published:
            report("pack", f"published {published.path.name}")
            write_shelf(settings)
            return published
    raise PackError(
        f"another process publishes packs of {quarter} at the same time",
        where=str(settings.packs_dir),
        fix="Run `quarterdeck pack` again when it has finished.",
    )


def _kept(settings: Settings, kept: PackResult) -> PackResult:
    report("pack", f"unchanged, kept {kept.path.name}")
    write_shelf(settings)
    return kept


@dataclass(frozen=True)
class PackParts:
    """Everything that goes into a pack's folder before its manifest; pages hold their markers still."""

    texts: Mapping[str, str]
    files: Mapping[str, bytes]
    missing: tuple[str, ...]
    content_id: str
    values: Mapping[str, str]


def _assets() -> dict[str, bytes]:
    plotly_js = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return {
        "assets/plotly.min.js": plotly_js,
        **{f"assets/{path.name}": path.read_bytes() for path in sorted(_STATIC.iterdir()) if path.is_file()},
    }


def _content_id(texts: Mapping[str, str], files: Mapping[str, bytes], facts: Sequence[str]) -> str:
    """A hash over everything but cut-off, snapshot, code version and revision, which are still markers here.

    Pictures and PDF are left out: they follow from the texts, and `facts` say whether they could be made.
    """
    digest = hashlib.sha256()
    for path, content in sorted({**{p: t.encode() for p, t in texts.items()}, **files}.items()):
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    for fact in facts:
        digest.update(f"{fact}\0".encode())
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
    contents: Contents, quarter: Quarter, revision: int, parts: PackParts, key: PrivateKey | None
) -> PackResult | None:
    """Write everything to a private folder and rename it into place; None when the name was taken meanwhile."""
    settings = contents.settings
    name = folder_name(quarter, revision)
    notes = printed_notes(list(parts.files), parts.missing, settings.reports.printed)
    work = settings.temp_dir / f"pack-{uuid.uuid4().hex}"
    about: dict[str, Any] = {
        "organization": settings.organization,
        "quarter": str(quarter),
        "revision": revision,
        "content_id": parts.content_id,
        "snapshot_id": contents.snapshot.get("snapshot_id", ""),
        "code_version": contents.snapshot.get("code_version", ""),
        "definitions_version": contents.definitions_version,
        "cut_off": contents.snapshot.get("cut_off", ""),
        "time_zone": settings.time_zone,
        "missing": list(parts.missing),
    }
    try:
        for path, text in parts.texts.items():
            note = notes.get(path, notes[""])
            whole = stamp(text, {**parts.values, "printed_note": note}) if path.endswith(".html") else text
            _write(work / path, whole.encode())
        for path, content in parts.files.items():
            _write(work / path, content)
        pack_id = write_manifest(work, about)
        _sign(settings, work, {**about, "pack": name}, key)
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


def _sign(settings: Settings, work: Path, about: Mapping[str, Any], key: PrivateKey | None) -> None:
    """Lay the signatures that the settings ask for beside the manifest."""
    manifest = (work / MANIFEST_NAME).read_bytes()
    if key is not None:
        for name, content in signature_files(manifest, about, key).items():
            _write(work / name, content)
    if settings.reports.keyless:
        bundle = keyless_bundle(manifest, about)
        if bundle is None:
            LOG.warning("reports.keyless is set, but this job has no OIDC token: the pack has no keyless signature")
        else:
            _write(work / BUNDLE_NAME, bundle)


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
        "printed_note": "",
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
