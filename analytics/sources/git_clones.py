"""Where a repository's objects are: a clone of the user's, read in place, or a partial clone of a URL that we keep.

Source: ingestion.md section 2 (a treeless clone holds all that commits need).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from analytics.errors import SourceError
from analytics.sources import git_program
from analytics.sources.git_program import FILTER_KEY, PROTOCOLS, REMOTE, Git, scrub

# Branches, tags and the heads of pull and merge requests: a squash merge leaves its original commits only there.
# Not refs/pull/*/merge (made by the host, deployed by nobody), refs/stash, refs/notes or refs/replace.
_WANTED_REF = re.compile(
    r"(refs/heads/.+|refs/tags/.+|refs/remotes/.+|refs/pull/[^/]+/head|refs/merge-requests/[^/]+/head)", re.DOTALL
)
_FETCHED = (
    "+refs/heads/*:refs/heads/*",
    "+refs/tags/*:refs/tags/*",
    "+refs/pull/*/head:refs/pull/*/head",
    "+refs/merge-requests/*/head:refs/merge-requests/*/head",
)
_SCP_ADDRESS = re.compile(r"[\w.-]+@[\w.-]+:")
_REF_LINE_BYTES = 8192
# Two million refs are some 150 MB of text; a server that goes on has no repository to show.
_REFS = 2_000_000


@dataclass(frozen=True)
class Snapshot:
    """What a repository's refs point to, `HEAD` among them, and where a shallow clone's history is cut off."""

    refs: Mapping[str, str]
    cut_off: frozenset[str] = frozenset()

    @property
    def shallow(self) -> str | None:
        """SHA-256 over the commits whose parents a shallow clone lacks; None for a whole history."""
        return _sha256(sorted(self.cut_off)) if self.cut_off else None

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted `refname oid` lines: equal when nothing has moved."""
        return _sha256([*sorted(f"{name} {oid}" for name, oid in self.refs.items()), *sorted(self.cut_off)])

    @property
    def default_tip(self) -> str | None:
        """The tip of the default branch: the remote's in a clone of the user's, else HEAD, else main or master."""
        for name in ("refs/remotes/origin/HEAD", "HEAD", "refs/heads/main", "refs/heads/master"):
            if name in self.refs:
                return self.refs[name]
        return None


class Clone(Protocol):
    """One repository, wherever it is."""

    def look(self) -> Snapshot:
        """The refs now, with as little work as possible; raises SourceError."""
        ...

    def open(self, seen: Snapshot) -> tuple[Git, Snapshot]:
        """Git on a repository that holds what was seen, and the refs it then has; raises SourceError."""
        ...


def clone_of(repository: str, location: str, clones_dir: Path, *, needs_trees: bool) -> Clone:
    """The clone that a location of the settings means; raises SourceError for one that git must not be given."""
    fix = "Give the path of a clone, or a URL that starts with " + ", ".join(f"{p}://" for p in PROTOCOLS) + "."
    if not location or location.startswith("-") or "\0" in location or "\n" in location:
        raise SourceError(f"'{scrub(location, location)}' is no place of a git repository", where=repository, fix=fix)
    scheme, separator, _ = location.partition("://")
    if separator:
        if scheme.lower() not in PROTOCOLS:
            raise SourceError(
                f"'{scrub(location, location)}' uses a protocol that is not accepted", where=repository, fix=fix
            )
        return CachedClone(repository, location, clones_dir, needs_trees=needs_trees)
    if _SCP_ADDRESS.match(location) and not Path(location).exists():
        return CachedClone(repository, location, clones_dir, needs_trees=needs_trees)
    return LocalClone(repository, Path(location))


class LocalClone:
    """A clone of the user's, bare or not, that is read where it is and never written to."""

    def __init__(self, repository: str, path: Path) -> None:
        self._where = f"{repository} ({path})"
        self._path = path

    def look(self) -> Snapshot:
        """Its refs; those of the remotes it was fetched from count too."""
        git = self._git()
        refs = _read_refs(git)
        head = git.output("rev-parse", "--verify", "--quiet", "HEAD^{commit}", accepted=frozenset({0, 1, 128}))
        if head.strip():
            refs["HEAD"] = head.strip().decode("ascii", "replace")
        asked = git.output("rev-parse", "--path-format=absolute", "--git-path", "shallow")
        shallow = Path(os.fsdecode(asked.rstrip(b"\n")))
        cut_off = shallow.read_text("ascii", "replace").split() if shallow.is_file() else []
        return Snapshot(refs, frozenset(cut_off))

    def open(self, seen: Snapshot) -> tuple[Git, Snapshot]:
        """The clone itself."""
        return self._git(), seen

    def _git(self) -> Git:
        path = self._path.absolute()
        if not path.is_dir():
            raise SourceError(
                "there is no such folder", where=self._where, fix="Clone the repository there, or correct the path."
            )
        inside = path / ".git"
        fix = f"Check it with: git -C {path} fsck"
        asked = Git(self._where, fix, path, git_dir=inside if inside.exists() else path)
        try:
            found = asked.output("rev-parse", "--absolute-git-dir").rstrip(b"\n")
        except SourceError as error:
            raise SourceError(
                f"is no git repository that can be read: {error.what}",
                where=self._where,
                fix="Clone the repository there, or correct the path.",
            ) from error
        # A linked worktree's folder holds but a pointer; the folder that git runs in must not lend it attributes.
        git_dir = Path(os.fsdecode(found))
        return Git(self._where, fix, git_dir, git_dir=git_dir)


class CachedClone:
    """A bare partial clone of a URL, made complete in a temporary folder and renamed, then fetched.

    Its configuration holds no URL, so no credential is written to disk and nothing is ever fetched by accident.
    """

    def __init__(self, repository: str, url: str, clones_dir: Path, *, needs_trees: bool) -> None:
        self._shown = scrub(url, url)
        self._where = f"{repository} ({self._shown})"
        self._url = url
        self._clones_dir = clones_dir
        self._filter = "blob:none" if needs_trees else "tree:0"
        # The name of the repository is a stranger's text: its readable part is for people, the hash tells it apart.
        slug = re.sub(r"[^A-Za-z0-9]+", "-", repository).strip("-")[:60]
        mark = hashlib.sha256(f"{repository}\n{self._shown}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
        self._name = f"{slug}-{mark}.git"

    @property
    def folder(self) -> Path:
        """Where the clone is kept."""
        return self._clones_dir / self._name

    def look(self) -> Snapshot:
        """The remote's refs, by one ls-remote."""
        refs: dict[str, str] = {}
        remote = self._remote(None)
        with remote.stream("ls-remote", "--quiet", REMOTE, seconds=git_program.LOOK_SECONDS) as out:
            for oid, name in _ref_lines(out, b"\t", remote):
                if name == "HEAD" or (_WANTED_REF.fullmatch(name) and not name.endswith("^{}")):
                    refs[name] = oid
        return Snapshot({name: oid for name, oid in refs.items() if not name.startswith("refs/remotes/")})

    def open(self, seen: Snapshot) -> tuple[Git, Snapshot]:
        """The kept clone, fetched (or cloned) when its refs differ from those seen."""
        fix = f"Remove the folder {self.folder} to have it cloned again."
        git = Git(self._where, fix, self.folder, git_dir=self.folder)
        kept = self._kept_filter(git) if self.folder.is_dir() else None
        if kept not in ("blob:none", self._filter):
            self._clone()
        elif _read_refs(git) != {name: oid for name, oid in seen.refs.items() if name != "HEAD"}:
            # The filter it was made with: one fetch without trees would leave a clone that only seems to have them.
            self._fetch(self.folder, kept)
        refs = _read_refs(git)
        if "HEAD" in seen.refs:
            refs["HEAD"] = seen.refs["HEAD"]
        return git, Snapshot(refs)

    def _kept_filter(self, git: Git) -> str:
        kept = git.output("config", "--get", FILTER_KEY, accepted=frozenset({0, 1}))
        return kept.strip().decode("ascii", "replace")

    def _clone(self) -> None:
        self._clones_dir.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        # The dot and the random part: a clone cut off by a crash is never taken for one that is complete.
        made = Path(tempfile.mkdtemp(prefix=f".{self._name}.", dir=self._clones_dir))
        try:
            new = made / "clone.git"
            fix = "Check the free space and the rights of the storage folder."
            Git(self._where, fix, made).output("init", "--quiet", "--bare", "--template=", "--", str(new))
            Git(self._where, fix, new, git_dir=new).output("config", FILTER_KEY, self._filter)
            self._fetch(new, self._filter)
            if self.folder.exists():
                self.folder.rename(made / "old.git")
            new.rename(self.folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _fetch(self, folder: Path, kept: str) -> None:
        # That the clone is partial is said to the fetch alone. Were it in the clone's configuration, every question
        # for an object that is not there would make git search all packs for a promise of it.
        promises = ((f"remote.{REMOTE}.promisor", "true"), (f"remote.{REMOTE}.partialclonefilter", kept))
        self._remote(folder, promises).output(
            *("fetch", "--quiet", "--no-tags", "--prune", "--force", "--no-write-fetch-head"),
            *("--no-recurse-submodules", "--no-show-forced-updates", f"--filter={kept}"),
            *("--end-of-options", REMOTE, *_FETCHED),
            seconds=git_program.FETCH_SECONDS,
        )

    def _remote(self, git_dir: Path | None, settings: tuple[tuple[str, str], ...] = ()) -> Git:
        self._clones_dir.mkdir(parents=True, exist_ok=True)
        fix = f"Check the address and your access with: git ls-remote {self._shown}"
        return Git(self._where, fix, git_dir or self._clones_dir, git_dir, self._url, settings)

    def _remove_leftovers(self) -> None:
        for leftover in self._clones_dir.glob(f".{self._name}.*"):
            # A clone may take no longer than this, so what is older belongs to nobody.
            with suppress(OSError):
                if time.time() - leftover.stat().st_mtime > 2 * git_program.FETCH_SECONDS:
                    shutil.rmtree(leftover, ignore_errors=True)


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()


def _read_refs(git: Git) -> dict[str, str]:
    with git.stream("for-each-ref", "--format=%(objectname) %(refname)") as out:
        return {name: oid for oid, name in _ref_lines(out, b" ", git) if _WANTED_REF.fullmatch(name)}


def _ref_lines(out: IO[bytes], separator: bytes, git: Git) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while line := out.readline(_REF_LINE_BYTES):
        oid, _, name = line.rstrip(b"\n").partition(separator)
        if not line.endswith(b"\n") or not re.fullmatch(rb"[0-9a-f]{40}|[0-9a-f]{64}", oid):
            raise EOFError
        if len(found) >= _REFS:
            raise SourceError(f"has more than {_REFS} refs", where=git.where, fix=git.fix)
        found.append((oid.decode("ascii"), name.decode("utf-8", "surrogateescape")))
    return found
