"""Globs in which only ``*`` and ``?`` are special, because names such as ``renovate[bot]`` hold brackets.

Source: metrics.md section 8 (Fiscal quarters, CSV lists, globs).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def _name_pattern(glob: str) -> re.Pattern[str]:
    text = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in glob)
    return re.compile(text, re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=4096)
def _path_pattern(glob: str) -> re.Pattern[str]:
    parts: list[str] = []
    rest = glob.lstrip("/")
    while rest:
        if rest.startswith("**/"):
            parts.append("(?:.*/)?")
            rest = rest[3:]
        elif rest.startswith("**"):
            parts.append(".*")
            rest = rest[2:]
        elif rest[0] == "*":
            parts.append("[^/]*")
            rest = rest[1:]
        elif rest[0] == "?":
            parts.append("[^/]")
            rest = rest[1:]
        else:
            parts.append(re.escape(rest[0]))
            rest = rest[1:]
    return re.compile("".join(parts), re.DOTALL)


def name_matches(name: str | None, globs: Iterable[str]) -> bool:
    """Whether a label, branch, title, environment or login matches any glob, letter case ignored."""
    return name is not None and any(_name_pattern(glob).fullmatch(name) for glob in globs)


def path_matches(path: str, globs: Iterable[str]) -> bool:
    """Whether a repository path matches any glob; ``*`` stays within a folder and ``**`` crosses folders."""
    return any(_path_pattern(glob).fullmatch(path) for glob in globs)
