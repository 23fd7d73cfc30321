"""Why a value is undefined, and which sources are missing. Source: metrics.md section 8 (reasons, collected)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.engines import Engine
from analytics.metrics.aggregates import Measured, Tally
from analytics.metrics.coverage import Snapshot, missing_entities
from analytics.metrics.grid import BoolArray, Grid, IntArray
from analytics.metrics.metric import Metric

NO_INCIDENT_SOURCE = "no_incident_source"
# What is said of a deployment that did not succeed; it is no reason why nothing could be measured.
_OUTCOMES = frozenset({"failure", "cancelled", "skipped", "in_progress", "unknown"})

Reasons = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Deployed:
    """Successful deployments by scope and quarter: all, those of a known kind, and those of a kind but `seed`."""

    total: IntArray
    resolved: IntArray
    grown: IntArray


def read_deployed(engine: Engine, grid: Grid) -> Deployed:
    """Count successful deployments of the measured days by kind; the reasons of undefined values need them."""
    deployed = Deployed(*(np.zeros(grid.shape, dtype=np.int64) for _ in range(3)))
    for scope, quarter, kind, resolved, count in engine.rows(
        "SELECT m.scope_number, o.quarter_number, o.kind, o.resolved, CAST(sum(o.seen) AS BIGINT) AS seen FROM "
        "(SELECT d.service, c.quarter_number, d.kind, d.resolved, count(*) AS seen FROM service_deployments AS d "
        "JOIN measured_days AS c ON c.day = d.day WHERE d.outcome = 'success' "
        "GROUP BY d.service, c.quarter_number, d.kind, d.resolved) AS o "
        "JOIN members AS m ON m.subject_kind = 'service' AND m.subject = o.service "
        "GROUP BY m.scope_number, o.quarter_number, o.kind, o.resolved"
    ):
        deployed.total[scope, quarter] += count
        if resolved:
            deployed.resolved[scope, quarter] += count
            deployed.grown[scope, quarter] += count if kind != "seed" else 0
    return deployed


class Reasoning:
    """Gives the first reason that applies, from what was collected and what was deployed."""

    def __init__(
        self, snapshot: Snapshot, grid: Grid, live: BoolArray, begun: BoolArray, deployed: Deployed | None = None
    ) -> None:
        self.snapshot = snapshot
        self.grid = grid
        self.live = live
        self.begun = begun
        self.deployed = deployed
        self.members = [snapshot.scopes[scope] for scope in grid.scopes]
        self._missing: dict[tuple[str, ...], list[list[str]]] = {}

    def missing(self, entities: tuple[str, ...]) -> list[list[str]]:
        """By scope: the entities that nobody offers; nothing is missing where nobody is."""
        if entities not in self._missing:
            self._missing[entities] = [
                missing_entities(self.snapshot, members, entities) if members else [] for members in self.members
            ]
        return self._missing[entities]

    def of(self, metric: Metric, result: Measured, tally: Tally) -> Reasons:
        """By place: why there is no value, or None where there is one."""
        assert self.deployed is not None
        missing = self.missing(metric.entities)
        some = np.array([bool(members) for members in self.members])
        # That nothing was deployed is said before that commits or incidents are missing (metrics.md E17).
        others = np.array([any(entity not in ("incidents", "commits") for entity in found) for found in missing])
        commits, incidents = (
            np.array([entity in found for found in missing], dtype=bool) for entity in ("commits", "incidents")
        )
        # Rollbacks may stand for incidents only where deployments are judged, never where incidents are counted.
        evidence = self.snapshot.rollback_is_evidence and "deployments" in metric.entities
        reasons: Reasons = np.full(result.n.size, None, dtype=object)
        undecided = np.ones(result.n.size, dtype=bool)

        def say(where: npt.NDArray[Any], why: str | None) -> None:
            chosen = undecided & where
            reasons[chosen] = why
            undecided[chosen] = False

        def spread(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return self.grid.spread(metric, table)

        say(~spread(np.broadcast_to(self.begun, self.grid.shape)), "not_collected")
        say(spread(some[:, None] & ~self.live), "not_yet_live")
        say(spread(~some | others), "not_collected")
        if metric.needs_deployments:
            say((spread(self.deployed.total) == 0) & (result.n == 0) & (result.open == 0), "no_deployments")
        say(spread(commits), "not_collected")
        if not evidence:
            say(spread(incidents), NO_INCIDENT_SOURCE)
        if metric.kind in ("per_day", "count"):
            return reasons
        say(~np.isnan(result.value), None)
        if metric.kind == "recovery_median":
            say((result.open > 0) & (result.n > 0), "median_not_reached")
            say(result.open > 0, "all_open")
        if metric.query == "change_lead_time":
            say(spread(self.deployed.resolved) == 0, "no_history")
            say(spread(self.deployed.grown) == 0, "seed_only")
        if metric.query == "policy_compliance_rate" and not self.snapshot.has_policy:
            say(undecided, "no_policy")
        if metric.reason_of_rows:
            for place, why in _most_said(tally).items():
                if undecided[place]:
                    reasons[place], undecided[place] = why, False
        say(undecided, metric.empty_reason)
        return reasons


def _most_said(tally: Tally) -> dict[int, str]:
    """By place: why most of its rows were left out, of several the first by name; outcomes say nothing."""
    said: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for place, reason, rows in zip(tally.places.tolist(), tally.reasons, tally.rows.tolist(), strict=True):
        if reason not in _OUTCOMES:
            said[place].append((-rows, reason))
    return {place: min(rows)[1] for place, rows in said.items()}
