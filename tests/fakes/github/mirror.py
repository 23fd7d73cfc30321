"""A real git repository as the fake GitHub shows it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fakes.github.world import Commit, Repository, Tag, World

_FIELDS = "%H%x00%P%x00%an%x00%at%x00%ct%x00%B%x01"


def mirror(world: World, at: Repository, clone: Path) -> None:
    """Its commits with their files, branches and tags; refs of pull requests become pull requests' commits."""

    def git(*words: str) -> str:
        ran = subprocess.run(["git", "-C", str(clone), *words], capture_output=True, check=True)
        return ran.stdout.decode("utf-8", "replace")

    for entry in git("log", "--all", f"--format={_FIELDS}").split("\x01"):
        if not entry.strip():
            continue
        sha, parents, author, authored, committed, message = entry.strip("\n").split("\x00")
        files = _files(git("diff-tree", "--root", "-r", "-z", "--name-status", "-M", "--no-commit-id", sha))
        at.graph[sha] = Commit(
            sha, parents.split(), author, message.rstrip("\n"), _moment(authored), _moment(committed),
            files if len(parents.split()) < 2 else [],
        )  # fmt: skip
    for line in git("for-each-ref", "--format=%(refname) %(objecttype) %(objectname) %(taggerdate:unix)").splitlines():
        name, kind, sha, *tagged = line.split(" ")
        if name.startswith("refs/heads/"):
            at.branches[name.removeprefix("refs/heads/")] = sha
        elif name.startswith("refs/tags/"):
            commit = git("rev-parse", f"{sha}^{{commit}}").strip()
            at.tags.append(Tag(name.removeprefix("refs/tags/"), commit, _moment(tagged[0]) if kind == "tag" else None))
        elif name.startswith("refs/pull/"):
            pull = world.open_pull(at)
            pull.commits = git("rev-list", "--reverse", sha, "^main").split()
    at.head = at.branches[at.default_branch]
    at.commits = [at.graph[sha] for sha in git("rev-list", "main").split()]
    at.pushed_at = world.second


def _files(told: str) -> list[dict[str, Any]]:
    parts = iter(told.split("\0"))
    found: list[dict[str, Any]] = []
    kinds = {"A": "added", "M": "modified", "D": "removed", "R": "renamed", "T": "changed"}
    for letter in parts:
        if not letter:
            continue
        file: dict[str, Any] = {"filename": next(parts), "status": kinds[letter[0]]}
        if letter[0] == "R":
            file = {"filename": next(parts), "previous_filename": file["filename"], "status": "renamed"}
        found.append(file)
    return found


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
