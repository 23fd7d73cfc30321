"""Real git repositories with fixed dates, made for one test, and what a sync of them lands."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from analytics.sources.git import GitProvider
from analytics.sources.port import Page, Refusal

START = 1_767_225_600  # 2026-01-01T00:00:00Z


class Repository:
    """One repository; every commit is an hour later than the one before."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        self.hours = 0
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []), ".")

    def git(self, *arguments: str, data: bytes | None = None, **environment: str) -> str:
        """Run git as a user of this repository would, isolated from the machine's settings."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        at = f"{START + self.hours * 3600} +0000"
        own = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_AUTHOR_DATE": at,
            "GIT_COMMITTER_NAME": "Bob",
            "GIT_COMMITTER_EMAIL": "bob@example.org",
            "GIT_COMMITTER_DATE": at,
        }
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=clean | own | environment, input=data, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        return done.stdout.decode("utf-8", "replace").strip()

    def commit(self, message: str, files: dict[str, str] | None = None, **environment: str) -> str:
        """Write the files (default: one of its own), commit, and give the sha."""
        self.hours += 1
        for name, content in (files if files is not None else {f"file-{self.hours}.txt": f"{message}\n"}).items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message, **environment)
        return self.head()

    def merge(self, branch: str) -> str:
        """Merge a branch with a merge commit, and give its sha."""
        self.hours += 1
        self.git("merge", "--quiet", "--no-ff", "-m", f"Merge {branch}", branch)
        return self.head()

    def head(self, ref: str = "HEAD") -> str:
        return self.git("rev-parse", ref)

    def raw_commit(self, content: bytes, ref: str = "refs/heads/raw") -> str:
        """Write a commit object byte for byte, and point a branch at it."""
        sha = self.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", data=content)
        self.git("update-ref", ref, sha)
        return sha


class World:
    """One provider over some repositories, and its landing reduced to lists and cursors."""

    def __init__(self, folder: Path, repositories: dict[str, str], **options: Any) -> None:
        self.folder = folder
        self.repositories = repositories
        self.options = options
        self.cursors: dict[tuple[str, str], Any] = {}

    def provider(self) -> GitProvider:
        watched = self.options.get("watched_paths", {})
        filtered = self.options.get("path_filtered", [])
        return GitProvider("clones", self.repositories, self.folder / "clones", watched, filtered)

    def pages(self, entity: str, repository: str = "acme/shop", *, keep: int | None = None) -> list[Page]:
        """Sync once; `keep` lands only so many pages, as a killed pull does. Cursors travel as JSON."""
        found: list[Page] = []
        for page in self.provider().changes(entity, repository, self.cursors.get((entity, repository))):
            if keep is not None and len(found) == keep:
                break
            found.append(page)
            self.cursors[(entity, repository)] = json.loads(json.dumps(page.cursor))
        return found

    def sync(self, entity: str, repository: str = "acme/shop", *, keep: int | None = None) -> list[dict[str, Any]]:
        """The records that one sync gives."""
        pages = self.pages(entity, repository, keep=keep)
        return [json.loads(record.payload) for page in pages for record in page.records]

    def refusals(self, entity: str, repository: str = "acme/shop") -> list[Refusal]:
        """What one sync refuses."""
        return [refusal for page in self.pages(entity, repository) for refusal in page.refusals]


def by_sha(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Commits by their sha; each stands once."""
    found = {record["sha"]: record for record in records}
    assert len(found) == len(records)
    return found
