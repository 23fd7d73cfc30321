"""Whose incident or sample it is: what other tools call a service, as the catalog's name.

Source: contract.md section 4 (`service` is the catalog's name).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class ServiceNames:
    """Names in other tools to services: those in the settings win over the catalog's; letter case is ignored."""

    in_settings: Mapping[str, str] = field(default_factory=dict)
    in_catalog: Mapping[str, str] = field(default_factory=dict)

    def of(self, *names: object) -> str | None:
        """The service that the first known name means; None where none is known."""
        folded = [name.strip().casefold() for name in names if isinstance(name, str)]
        for known in self._folded:
            for name in folded:
                if name in known:
                    return known[name]
        return None

    @cached_property
    def _folded(self) -> list[dict[str, str]]:
        return [
            {name.strip().casefold(): service for name, service in known.items()}
            for known in (self.in_settings, self.in_catalog)
        ]
