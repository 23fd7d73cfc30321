"""One aggregated value before it becomes an output row."""

from __future__ import annotations

from dataclasses import dataclass

Key = tuple[str, str, str, str | None]
"""scope, name, quarter, series"""


@dataclass
class Measured:
    """A value with its parts and interval, in the metric's unit; None where there is none."""

    value: float | None = None
    n: int = 0
    numerator: float | None = None
    denominator: float | None = None
    low: float | None = None
    high: float | None = None
    open: int = 0
