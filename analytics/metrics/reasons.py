"""Why a value is undefined, and which sources are missing. Source: metrics.md section 8 (reasons, collected)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from analytics.metrics.aggregates import Key, Measured
from analytics.metrics.coverage import Covered, Snapshot, missing_entities
from analytics.metrics.metric import Metric

NO_INCIDENT_SOURCE = "no_incident_source"
# What is said of a deployment that did not succeed; it is no reason why nothing could be measured.
_OUTCOMES = frozenset({"failure", "cancelled", "skipped", "in_progress", "unknown"})


class Reasons:
    """Gives the first reason that applies, from what was collected and what was deployed."""

    def __init__(
        self,
        snapshot: Snapshot,
        covered: Mapping[tuple[str, str, str], Covered],
        begun: Mapping[str, bool],
        kinds: Mapping[tuple[str, str, str], Counter[str]],
    ) -> None:
        self.snapshot = snapshot
        self.covered = covered
        self.begun = begun
        self.kinds = kinds

    def missing(self, metric: Metric, members: frozenset[str]) -> list[str]:
        """Sources that the metric needs, or that would add to it, and that nobody offers."""
        if not members:
            return []
        return missing_entities(self.snapshot, members, (*metric.entities, *metric.optional))

    def of(
        self, metric: Metric, key: Key, members: frozenset[str], result: Measured, excluded: Mapping[str, int]
    ) -> str | None:
        """Why there is no value, or None where there is one."""
        scope, name, quarter, _ = key
        if not self.begun[quarter]:
            return "not_collected"
        live = self.covered[scope, name, quarter].live_services
        if members and not live:
            return "not_yet_live"
        missing = missing_entities(self.snapshot, members, metric.entities)
        # That nothing was deployed is said before that commits or incidents are missing (metrics.md E17).
        if not members or any(entity not in ("incidents", "commits") for entity in missing):
            return "not_collected"
        kinds = self.kinds.get((scope, name, quarter), Counter())
        if metric.needs_deployments and not kinds.total() and not result.n and not result.open:
            return "no_deployments"
        if "commits" in missing:
            return "not_collected"
        # Rollbacks may stand for incidents only where deployments are judged, never where incidents are counted.
        evidence = self.snapshot.rollback_is_evidence and "deployments" in metric.entities
        if "incidents" in missing and not evidence:
            return NO_INCIDENT_SOURCE
        if metric.kind in ("per_day", "count") or result.value is not None:
            return None
        return self._own(metric, kinds, result, excluded)

    def _own(self, metric: Metric, kinds: Counter[str], result: Measured, excluded: Mapping[str, int]) -> str:
        if metric.kind == "recovery_median" and result.open:
            return "median_not_reached" if result.n else "all_open"
        if metric.query == "change_lead_time":
            resolved = {kind for kind in kinds if kind != "unresolved"}
            if not resolved:
                return "no_history"
            if resolved == {"seed"}:
                return "seed_only"
        if metric.query == "policy_compliance_rate" and not self.snapshot.has_policy:
            return "no_policy"
        if metric.reason_of_rows:
            said = {reason: rows for reason, rows in excluded.items() if reason not in _OUTCOMES}
            if said:
                return min(said, key=lambda reason: (-said[reason], reason))
        return metric.empty_reason
