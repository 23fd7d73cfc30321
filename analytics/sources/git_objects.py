"""What one repository holds, as records of the feed: commits, tags, changed files and patch ids.

Objects are read raw and with their sizes given (`git cat-file --batch`), so that nothing that a message or a name
contains can be taken for the next field. Source of the fields: contract.md section 4.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, Any, TypeVar

from analytics.errors import SourceError
from analytics.sources.git_program import FILTER_KEY, Git

MESSAGE_BYTES = 64 * 1024
NAME_BYTES = 500
# A commit that changed more paths than this has no list: unknown is honest, half a list would hide a service.
FILES_PER_COMMIT = 10_000
FILES_PER_PAGE = 1_000_000
# For the commits of one batch; a slower batch is halved.
PATCH_ID_SECONDS = 120.0

_OBJECT_BYTES = 1024 * 1024
_PATH_BYTES = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Python's codecs also hold things that are no text encoding of mail or git (punycode and idna are slow on purpose).
_TEXT_CODECS = ("ascii", "big5", "cp", "euc", "gb", "iso2022", "iso8859", "johab", "koi8", "mac", "shift_jis", "utf")
_EMPTY_TREES = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}

V = TypeVar("V")
_logger = logging.getLogger(__name__)


class UnreadableObjectError(ValueError):
    """A commit or tag whose bytes are not what git's format says; the record is refused, the rest goes on."""


@dataclass(frozen=True, slots=True)
class GitObject:
    """One object: its id, kind, full size, and as much of its content as is of use (at most 1 MiB)."""

    oid: str
    kind: str
    size: int
    content: bytes


def read_objects(git: Git, names: Sequence[str]) -> Iterator[GitObject | None]:
    """The objects of these names in their order, None where there is none; memory is bounded whatever their size."""
    with git.stream("cat-file", "--batch", "--buffer", lines=names) as out:
        for _ in names:
            header = out.readline(_PATH_BYTES)
            parts = header.split()
            if len(parts) == 2 and parts[1] in (b"missing", b"ambiguous"):
                yield None
                continue
            if len(parts) != 3 or not parts[2].isdigit():
                raise EOFError
            size = int(parts[2])
            content = out.read(min(size, _OBJECT_BYTES))
            _skip(out, size - len(content) + 1)
            yield GitObject(parts[0].decode("ascii"), parts[1].decode("ascii"), size, content)
        out.read()


def existing_objects(git: Git, oids: Sequence[str]) -> list[str]:
    """Those of the ids that the repository has."""
    if not oids:
        return []
    with git.stream("cat-file", "--batch-check=%(objectname)", "--buffer", lines=oids) as out:
        found = {line.strip().decode("ascii", "replace") for line in out}
    return [oid for oid in oids if oid in found]


def commit_fields(item: GitObject) -> dict[str, Any]:
    """Parents, author, times and message of a commit; raises UnreadableObjectError.

    Times are RFC 3339 in UTC. One that no calendar holds is given as git has it (`99999999999999 +0000`), for the
    judge to refuse. The message ends at its first NUL, as git's own does, and after 64 KiB.
    """
    headers, parents, message = _parse(item)
    if "author" not in headers or "committer" not in headers:
        raise UnreadableObjectError("the commit names no author or no committer")
    encoding = headers.get("encoding", b"")
    author, authored_at = _identity(headers["author"], encoding)
    _, committed_at = _identity(headers["committer"], encoding)
    return {
        "parents": parents,
        "author": author,
        "authored_at": authored_at,
        "committed_at": committed_at,
        "message": _text(message[:MESSAGE_BYTES], encoding).rstrip("\n"),
    }


def tagged_at(item: GitObject) -> str | None:
    """The tagger's time of an annotated tag; None where it has no tagger."""
    headers, _, _ = _parse(item)
    return _identity(headers["tagger"], b"")[1] if "tagger" in headers else None


def changed_files(git: Git, oids: Sequence[str]) -> dict[str, list[str]]:
    """The paths that each commit (no merge commit) changed; a rename counts as both of its paths.

    A commit of more than 10,000 paths has no entry. Raises SourceError where a tree is not in the clone.
    """
    found: dict[str, list[str]] = {oid: [] for oid in oids}
    total = 0
    # --name-status rather than --name-only: a path always follows its letter, so that a file named like a commit
    # cannot pass for one.
    command = ("diff-tree", "--stdin", "--root", "-r", "-z", "--name-status", "--no-renames", "--no-ext-diff")
    with git.stream(*command, lines=oids) as out:
        current: str | None = None
        too_many: set[str] = set()
        tokens = _tokens(out)
        for token in tokens:
            if len(token) >= 40:
                current = token.decode("ascii")
                continue
            path = next(tokens, None)
            if path is None or current is None:
                raise EOFError
            total += 1
            files = found.get(current, [])
            if len(files) >= FILES_PER_COMMIT or total > FILES_PER_PAGE:
                too_many.add(current)
            elif current not in too_many:
                files.append(path.decode("utf-8", "replace"))
    return {oid: files for oid, files in found.items() if oid not in too_many}


def patch_ids(git: Git, oids: Sequence[str]) -> dict[str, str]:
    """`git patch-id --stable` of each commit (no merge commit) that changes something.

    Raises SourceError where a blob is not in the clone: nothing is fetched for it.
    """
    found: dict[str, str] = {}
    # --full-index: the patch id of a binary file is made from its blobs' ids, and short ones grow with the repository.
    command = (
        *("diff-tree", "--stdin", "--root", "-r", "-p", "-U3", "--full-index"),
        *("--no-renames", "--no-ext-diff", "--no-textconv", "--diff-algorithm=myers", "--indent-heuristic"),
        *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=none"),
    )
    # Newer git reads .gitattributes from a commit; which one is checked out must not change an id.
    extra = {"GIT_ATTR_SOURCE": _EMPTY_TREES[len(oids[0])]} if len(oids[0]) in _EMPTY_TREES else {}
    with (
        git.stream(*command, lines=oids, seconds=PATCH_ID_SECONDS, extra=extra) as diffs,
        git.stream("patch-id", "--stable", feed=diffs) as out,
    ):
        for line in out:
            patch, _, oid = line.decode("ascii", "replace").strip().partition(" ")
            found[oid] = patch
    return found


class Reachable:
    """Reads what needs trees (or, with `blobs`, file contents too), going around commits that lack some of them.

    A failing batch is halved until the failing commit stands alone. A partial clone is first asked what its first
    commit lacks: there a failure is the rule, and can cost git a search of all its packs.
    """

    def __init__(self, git: Git, what: str, *, blobs: bool) -> None:
        self._git = git
        self._what = what
        self._blobs = blobs
        self._failures_left: int | None = None

    def read(self, oids: Sequence[str], read: Callable[[Sequence[str]], dict[str, V]]) -> dict[str, V]:
        """What `read` gives for the commits, without those that cannot be read."""
        if not oids:
            return {}
        if self._failures_left is None:
            self._failures_left = self._failures_to_expect(oids[0])
        if self._failures_left == 0:
            return {}
        try:
            return read(oids)
        except SourceError as error:
            self._failures_left -= 1
            if self._failures_left == 0 or len(oids) == 1:
                which = "further commits" if self._failures_left == 0 else oids[0]
                _logger.warning("%s: no %s of %s: %s", self._git.where, self._what, which, error.what)
            if len(oids) == 1:
                return {}
            middle = len(oids) // 2
            return self.read(oids[:middle], read) | self.read(oids[middle:], read)

    def _failures_to_expect(self, oid: str) -> int:
        pattern = rf"^(remote\..*\.promisor|extensions\.partialclone|{re.escape(FILTER_KEY)})$"
        if not self._git.output("config", "--get-regexp", pattern, accepted=frozenset({0, 1})).strip():
            return 24
        wanted = [] if self._blobs else ["--filter=blob:none"]
        with self._git.stream("rev-list", "--objects", "--no-walk", "--missing=print", *wanted, oid) as out:
            lacking = sum(line.startswith(b"?") for line in out)
        if lacking:
            _logger.info("%s: a partial clone, so no %s", self._git.where, self._what)
        return 0 if lacking else 1


def _tokens(out: IO[bytes]) -> Iterator[bytes]:
    """NUL-terminated tokens; raises EOFError when the last one is cut or absurdly long."""
    rest = b""
    while chunk := out.read(65536):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
        if len(rest) > 1024 * 1024:
            raise EOFError
    if rest:
        raise EOFError


def _skip(out: IO[bytes], count: int) -> None:
    while count > 0:
        chunk = out.read(min(count, 65536))
        if not chunk:
            raise EOFError
        count -= len(chunk)


def _parse(item: GitObject) -> tuple[dict[str, bytes], list[str], bytes]:
    headers: dict[str, bytes] = {}
    parents: list[str] = []
    position = 0
    content = item.content
    while True:
        end = content.find(b"\n", position)
        if end < 0:
            if item.size > len(content):
                raise UnreadableObjectError(
                    f"the header of {item.kind} {item.oid} is longer than {_OBJECT_BYTES} bytes"
                )
            return headers, parents, b""
        line = content[position:end]
        position = end + 1
        if not line:
            return headers, parents, content[position:].split(b"\0", 1)[0]
        key, _, value = line.partition(b" ")  # of a signature's further lines the key is empty
        if key == b"parent":
            parents.append(value.decode("ascii", "replace"))
        else:
            headers.setdefault(key.decode("ascii", "replace"), value)


def _identity(line: bytes, encoding: bytes) -> tuple[str, str]:
    """Name (or address, where there is no name) and time of `Name <address> seconds zone`."""
    who, _, when = line.rpartition(b">")
    name, _, address = who.partition(b"<")
    seconds, _, zone = when.strip().partition(b" ")
    text = _text((name.strip() or address.strip())[:NAME_BYTES], encoding)
    return text, _moment(seconds, zone)


def _moment(seconds: bytes, zone: bytes) -> str:
    try:
        return (_EPOCH + timedelta(seconds=int(seconds[:20]))).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return (seconds + b" " + zone)[:100].decode("utf-8", "replace")


def _text(data: bytes, encoding: bytes) -> str:
    try:
        codec = codecs.lookup(encoding.decode("ascii")).name if encoding else "utf-8"
    except (LookupError, ValueError):
        codec = "utf-8"
    if not codec.startswith(_TEXT_CODECS):
        codec = "utf-8"
    # utf-16 and utf-7 may give lone surrogates, which no JSON text may hold.
    text = data.decode(codec, "replace").encode("utf-8", "replace").decode("utf-8")
    return text.replace("\0", "")
