"""What a repository's simulation has written so far, by feed, and what was planted in it on purpose."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from analytics.sample.shipments import Shipment
from analytics.sources.entities import Record


@dataclass(frozen=True)
class RawLine:
    """A line that is wrong on purpose, written as it is."""

    text: str
    reason: str


@dataclass
class Book:
    """The records of one repository by feed, and the ids of what is worth finding by what it is."""

    records: dict[str, list[Record | RawLine]] = field(default_factory=lambda: defaultdict(list))
    planted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # What reached production, in the order of writing.
    shipments: list[Shipment] = field(default_factory=list)
    # Files beside the feeds, by their path below the sample's folder.
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, feed: str, record: Record) -> None:
        """Append a record to a feed."""
        self.records[feed].append(record)

    def plant(self, name: str, *ids: object) -> None:
        """Remember that something worth finding carries these ids."""
        self.planted[name] += [str(item) for item in ids]
