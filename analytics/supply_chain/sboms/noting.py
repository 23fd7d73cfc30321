"""Getting typed values out of untyped ones: a wrong type is noted and left out, never raised.

Source: supply-chain.md section 2 (grade errors; no all-or-nothing).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from analytics.supply_chain.sboms.facts import MOST_NOTES
from analytics.supply_chain.sboms.reading import shortened

# Longer texts are cut; a name of a megabyte serves nobody.
MOST_CHARACTERS: Final = 4_096
_NOTHING: Final[Mapping[str, Any]] = {}


class Notes:
    """What was left out while reading a document; only the first MOST_NOTES are kept, all are counted."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.count = 0

    def add(self, path: str, what: str) -> None:
        """Note something at a path of the document."""
        self.count += 1
        if len(self.texts) < MOST_NOTES:
            self.texts.append(f"{shortened(path, 200)}: {shortened(what, 300)}")

    def all(self) -> tuple[str, ...]:
        """The notes, and how many more there were."""
        left = self.count - len(self.texts)
        return (*self.texts, f"{left:,} more notes are left out") if left else tuple(self.texts)

    def text(self, holder: Mapping[str, Any], key: str, path: str) -> str | None:
        """The text at a key; None when it is missing, empty or no text."""
        value = holder.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self.add(f"{path}.{key}", f"should be text and is {type(value).__name__}")
            return None
        value = value.strip()
        return value[:MOST_CHARACTERS] or None

    def mapping(self, holder: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
        """The object at a key; an empty one when it is missing or no object."""
        value = holder.get(key)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.add(f"{path}.{key}", f"should be an object and is {type(value).__name__}")
        return _NOTHING

    def items(self, holder: Mapping[str, Any], key: str, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The objects of the list at a key, each with its path."""
        for value, place in self._list(holder, key, path):
            if isinstance(value, dict):
                yield value, place
            else:
                self.add(place, f"should be an object and is {type(value).__name__}")

    def texts_of(self, holder: Mapping[str, Any], key: str, path: str) -> Iterator[str]:
        """The texts of the list at a key."""
        for value, place in self._list(holder, key, path):
            if isinstance(value, str):
                yield value[:MOST_CHARACTERS]
            else:
                self.add(place, f"should be text and is {type(value).__name__}")

    def _list(self, holder: Mapping[str, Any], key: str, path: str) -> Iterator[tuple[object, str]]:
        value = holder.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.add(f"{path}.{key}", f"should be a list and is {type(value).__name__}")
            return
        for place, item in enumerate(value):
            yield item, f"{path}.{key}[{place}]"
