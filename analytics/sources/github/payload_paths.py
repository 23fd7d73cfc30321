"""Where a deployment's payload names its artifact: a configured path, as `$.artifact.digest` or `images[0].digest`.

Source: supply-chain.md section 1 (The join).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

Path = tuple[str | int, ...]

_STEP = re.compile(r"\.([A-Za-z0-9_-]{1,100})|\[(\d{1,4})\]")
# GraphQL gives a payload as JSON inside text, twice where it is an object.
_WRAPPED = 3


def parse_path(text: str) -> Path:
    """The steps of a path: names, and places in lists. Raises ValueError for anything else."""
    rest = text.removeprefix("$")
    if rest and not rest.startswith((".", "[")):
        # Without `$` the first name has no dot before it.
        rest = "" if text.startswith("$") else f".{rest}"
    steps: list[str | int] = []
    place = 0
    while match := _STEP.match(rest, place):
        steps.append(match[1] if match[1] is not None else int(match[2]))
        place = match.end()
    if not steps or place < len(rest):
        raise ValueError(f"'{text}' is no path; write names with dots between them, as $.artifact.digest")
    return tuple(steps)


def value_at(payload: Any, path: Path) -> Any:
    """What stands at a path of a payload, or None; a payload that is text is read as the JSON that it holds."""
    for _ in range(_WRAPPED):
        if not isinstance(payload, str):
            break
        try:
            payload = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return None
    for step in path:
        if isinstance(step, int):
            payload = payload[step] if isinstance(payload, list) and step < len(payload) else None
        else:
            payload = payload.get(step) if isinstance(payload, dict) else None
    return payload
