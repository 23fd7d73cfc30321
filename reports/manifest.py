"""The manifest of a pack: a SHA-256 of every file, and the check that nothing is missing, changed or added.

A manifest that arrives from elsewhere is hostile: its paths are never opened. The folder is walked without following
links, and what was found there is compared with what the manifest lists. Source: reports.md sections 1 and 28.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analytics.errors import PackError
from reports.signing import SIGNATURE_FILES, PublicKey, verify_signature

if TYPE_CHECKING:
    from analytics.supply_chain.trusted_roots import TrustedRoot

MANIFEST_NAME = "manifest.json"
FORMAT = "quarterdeck-pack/1"
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
MAX_FILES = 20_000
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PATH_LENGTH = 400
MAX_PROBLEMS = 200

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class VerifyResult:
    """What `verify-pack` found; `pack_id` is the manifest's SHA-256, `signature` says whether one was checked."""

    ok: bool
    problems: tuple[str, ...]
    pack_id: str | None
    files: int = 0
    signature: str = "none"


@dataclass(frozen=True)
class ListedFile:
    """One file as a manifest lists it."""

    sha256: str
    bytes: int


def write_manifest(folder: Path, about: Mapping[str, str | int]) -> str:
    """Write `manifest.json` over everything in a folder and return the pack's id; `about` says what the pack is."""
    files = []
    for path in sorted(_walk(folder, [])):
        if path == MANIFEST_NAME or path in SIGNATURE_FILES:
            continue
        digest, size = _hash(folder / path)
        files.append({"path": path, "sha256": digest, "bytes": size})
    document = {"format": FORMAT, **about, "files": files}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST_NAME).write_bytes(text.encode())
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest's document and its SHA-256.

    Raises PackError when it is missing, larger than 8 MiB, no regular file, or not the JSON object that it should be.
    """
    path = folder / MANIFEST_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise PackError(
            f"there is no {MANIFEST_NAME}", where=str(folder), fix="Name the folder of a pack, such as packs/2026-Q3."
        ) from error
    except OSError as error:
        raise PackError(f"{MANIFEST_NAME} cannot be read: {error.strerror}", where=str(folder)) from error
    # Asked before Python makes a file of it, which fails for a folder.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PackError(f"{MANIFEST_NAME} is not a regular file", where=str(folder))
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise PackError(f"{MANIFEST_NAME} is larger than {MAX_MANIFEST_BYTES} bytes", where=str(folder))
    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_object_without_repeats)
    except (ValueError, RecursionError) as error:
        raise PackError(f"{MANIFEST_NAME} is not valid JSON: {_plain(str(error))}", where=str(folder)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PackError(f"{MANIFEST_NAME} is not in the format {FORMAT}", where=str(folder))
    return document, hashlib.sha256(content).hexdigest()


def verify_pack(folder: Path, trusted: PublicKey | None = None, roots: Sequence[TrustedRoot] = ()) -> VerifyResult:
    """Compare a pack with its manifest, and the manifest with its signature: each problem names the file.

    With a trusted key the pack must be signed by it. Raises PackError when there is no readable manifest.
    """
    document, pack_id = read_manifest(folder)
    problems: list[str] = []
    listed = _listed_files(document.get("files"), problems)
    found = set(_walk(folder, problems)) - {MANIFEST_NAME} - SIGNATURE_FILES
    for path in sorted(listed):
        problem = f"{_plain(path)}: missing" if path not in found else _compare(folder / path, path, listed[path])
        if problem:
            problems.append(problem)
    problems += [f"{_plain(path)}: not in the manifest" for path in sorted(found - set(listed))]
    signature = verify_signature(folder, pack_id, trusted, roots)
    problems += [_plain(problem) for problem in signature.problems]
    if len(problems) > MAX_PROBLEMS:
        problems = [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more problems"]
    return VerifyResult(not problems, tuple(problems), pack_id, len(listed), _plain(signature.words))


def _listed_files(value: Any, problems: list[str]) -> dict[str, ListedFile]:
    if not isinstance(value, list):
        problems.append(f"{MANIFEST_NAME}: 'files' is not a list")
        return {}
    if len(value) > MAX_FILES:
        problems.append(f"{MANIFEST_NAME}: lists {len(value)} files; at most {MAX_FILES} are read")
    listed: dict[str, ListedFile] = {}
    for index, entry in enumerate(value[:MAX_FILES]):
        problem = _entry_problem(entry, listed)
        if problem:
            problems.append(f"{MANIFEST_NAME}: files[{index}]: {problem}")
        else:
            listed[entry["path"]] = ListedFile(entry["sha256"], entry["bytes"])
    return listed


def _entry_problem(entry: Any, listed: Mapping[str, ListedFile]) -> str | None:
    if not isinstance(entry, dict):
        return "is not an object"
    path, sha256, size = entry.get("path"), entry.get("sha256"), entry.get("bytes")
    if not isinstance(path, str) or not _is_safe(path):
        return f"path {_plain(str(path))} is not a plain relative path inside the pack"
    if path in listed:
        return f"{_plain(path)} is listed twice"
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        return f"{_plain(path)} has no SHA-256 of 64 hexadecimal digits"
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE_BYTES:
        return f"{_plain(path)} has a size outside 0 to {MAX_FILE_BYTES} bytes"
    return None


def _is_safe(path: str) -> bool:
    """Whether a listed path is relative, normal, and means the same on every system."""
    parts = path.split("/")
    return (
        0 < len(path) <= MAX_PATH_LENGTH
        and path.isprintable()
        and not set('\\:*?"<>|') & set(path)
        and all(part not in ("", ".", "..") for part in parts)
        and path not in (MANIFEST_NAME, *SIGNATURE_FILES)
    )


def _walk(folder: Path, problems: list[str]) -> list[str]:
    """Regular files below a folder as paths with `/`; links and special files become problems and are not followed."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        relative = waiting.pop()
        try:
            with os.scandir(folder / relative) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(f"{_plain(relative)}: cannot be listed: {error.strerror}")
            continue
        for entry in listed:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_symlink():
                problems.append(f"{_plain(path)}: is a symbolic link, which is not followed")
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_file(follow_symlinks=False):
                found.append(path)
            else:
                problems.append(f"{_plain(path)}: is not a regular file")
        if len(found) > MAX_FILES:
            problems.append(f"the folder holds more than {MAX_FILES} files; the rest was not looked at")
            break
    return found


def _compare(file: Path, path: str, expected: ListedFile) -> str | None:
    try:
        size = file.lstat().st_size
        if size != expected.bytes:
            return f"{_plain(path)}: changed ({size} bytes, the manifest says {expected.bytes})"
        digest, _ = _hash(file)
    except OSError as error:
        return f"{_plain(path)}: cannot be read: {error.strerror}"
    return None if digest == expected.sha256 else f"{_plain(path)}: changed (its SHA-256 differs)"


def _hash(file: Path) -> tuple[str, int]:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
        return digest.hexdigest(), opened.tell()


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ: two readers must not see two manifests in one file."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _plain(text: str) -> str:
    """Text that cannot move the cursor of a terminal, shortened."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= MAX_PATH_LENGTH else shown[:MAX_PATH_LENGTH] + "\u2026"
