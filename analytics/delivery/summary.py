"""What a build says of itself when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field

STAGE = "build"


@dataclass
class BuildSummary:
    """Rows written per table, and what arrived that nobody declared."""

    tables: dict[str, int] = field(default_factory=dict)
    unmapped: int = 0
    # Why everything was made anew; None where the last build was updated.
    whole: str | None = None
    # Of the services of an update: those continued from where they were known, and those derived from their beginning.
    continued: int = 0
    derived: int = 0
