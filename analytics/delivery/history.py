"""The commit graph of one repository: what a revision reaches, and whether one revision stands before another.

Commits are numbered once; every walk is over integers and stops at what has been seen, so that a service's whole
history of deployments costs one visit per commit. Source: metrics.md section 1 (new commits).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """What ownership and failure rules ask of a commit."""

    sha: str
    parents: tuple[str, ...]
    author: str | None
    is_bot: bool
    authored_at: datetime
    patch_id: str | None = None
    files: tuple[str, ...] | None = None
    reverts: tuple[str, ...] = ()
    reverts_pull_requests: tuple[int, ...] = ()
    picked_from: tuple[str, ...] = ()


class History:
    """A repository's known commits; parents outside it are the edge of a shallow history."""

    def __init__(self, commits: Iterable[CommitFacts]) -> None:
        self.commits: list[CommitFacts] = sorted(commits, key=lambda commit: commit.sha)
        self.index = {commit.sha: number for number, commit in enumerate(self.commits)}
        self.parents: list[tuple[int, ...]] = [
            tuple(self.index[parent] for parent in commit.parents if parent in self.index) for commit in self.commits
        ]
        self._depth: list[int] | None = None
        self._line: list[tuple[int, int]] | None = None
        self._by_patch: dict[str, list[int]] = {}
        for number, commit in enumerate(self.commits):
            if commit.patch_id:
                self._by_patch.setdefault(commit.patch_id, []).append(number)
        self._answers: dict[tuple[int, int], bool] = {}

    def __len__(self) -> int:
        return len(self.commits)

    def find(self, sha: str) -> int | None:
        """The number of a commit, or None when the sha is not in the known history."""
        return self.index.get(sha)

    def full_sha(self, text: str) -> str | None:
        """The commit that a (possibly abbreviated) sha in a message names; None when unknown or ambiguous."""
        if text in self.index:
            return text
        return self.starting_with(text) if 7 <= len(text) < 40 else None

    def starting_with(self, prefix: str) -> str | None:
        """The one commit whose sha begins with a prefix, or None."""
        at = bisect_left(self.commits, prefix, key=lambda commit: commit.sha)
        found = [commit.sha for commit in self.commits[at : at + 2] if commit.sha.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def with_patch(self, patch_id: str) -> list[int]:
        """Commits that carry the same patch."""
        return self._by_patch.get(patch_id, [])

    def reach_new(self, start: int, seen: bytearray) -> list[int]:
        """Commits reachable from `start` that are not marked in `seen`; marks them."""
        if seen[start]:
            return []
        seen[start] = 1
        found = [start]
        stack = [start]
        while stack:
            for parent in self.parents[stack.pop()]:
                if not seen[parent]:
                    seen[parent] = 1
                    found.append(parent)
                    stack.append(parent)
        return found

    def is_before(self, older: int, newer: int) -> bool:
        """Whether `older` is a strict ancestor of `newer`."""
        if older == newer:
            return False
        depth, line = self._topology()
        if line[older][0] == line[newer][0]:
            return line[older][1] < line[newer][1]
        answer = self._answers.get((older, newer))
        if answer is None:
            answer = self._answers[older, newer] = self._walk(older, newer, depth)
        return answer

    def _walk(self, older: int, newer: int, depth: Sequence[int]) -> bool:
        # In a parent cycle depth says nothing, and nothing may be cut.
        floor = depth[older] if depth[older] <= len(self.commits) else -1
        visited = {newer}
        stack = [newer]
        while stack:
            for parent in self.parents[stack.pop()]:
                if parent == older:
                    return True
                # An ancestor is always less deep, so a branch that is already above `older` cannot lead to it.
                if parent not in visited and depth[parent] > floor:
                    visited.add(parent)
                    stack.append(parent)
        return False

    def _topology(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Longest distance from a root, and the first-parent line with the position on it, of every commit."""
        if self._depth is None or self._line is None:
            size = len(self.commits)
            children: list[list[int]] = [[] for _ in range(size)]
            waiting = [0] * size
            for number, parents in enumerate(self.parents):
                waiting[number] = len(parents)
                for parent in parents:
                    children[parent].append(number)
            # Commits of a parent cycle (hostile data) keep the greatest depth, so that no walk is cut short there.
            depth = [size + 1] * size
            line: list[tuple[int, int]] = [(-number - 1, 0) for number in range(size)]
            ready = [number for number in range(size) if waiting[number] == 0]
            for number in ready:
                depth[number] = 0
            continued = bytearray(size)
            position = 0
            while position < len(ready):
                number = ready[position]
                position += 1
                parents = self.parents[number]
                if parents and not continued[parents[0]]:
                    first = parents[0]
                    continued[first] = 1
                    line[number] = (line[first][0], line[first][1] + 1)
                else:
                    line[number] = (number, 0)
                for child in children[number]:
                    waiting[child] -= 1
                    if waiting[child] == 0:
                        depth[child] = 1 + max(depth[parent] for parent in self.parents[child])
                        ready.append(child)
            self._depth, self._line = depth, line
        return self._depth, self._line
