"""Whose incident or sample it is: what other tools call a service, as the catalog's name.

Source: contract.md section 4 (`service` is the catalog's name).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServiceNames:
    """Names in other tools to services: those in the settings win over the catalog's; letter case is ignored."""

    in_settings: Mapping[str, str] = field(default_factory=dict)
    in_catalog: Mapping[str, str] = field(default_factory=dict)

    def of(self, *names: object) -> str | None:
        """The service that the first known name means; None where none is known."""
        for known in (self.in_settings, self.in_catalog):
            folded = {name.casefold(): service for name, service in known.items()}
            for name in names:
                if isinstance(name, str) and name.strip().casefold() in folded:
                    return folded[name.strip().casefold()]
        return None
