"""Why a value is undefined, and which sources are missing. Source: metrics.md section 8 (reasons, collected)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.engines import Engine
from analytics.metrics.aggregates import Measured, Tally
from analytics.metrics.coverage import SCOPES, Snapshot, missing_entities
from analytics.metrics.grid import BoolArray, Grid
from analytics.metrics.metric import Metric
from analytics.samples import IntArray

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
    tables = deployed.total, deployed.resolved, deployed.grown
    quarters = len(grid.quarters)
    cell, *counts = engine.arrays(
        f"SELECT s.subject_number * {quarters} + c.quarter_number AS cell, count(*) AS total, "
        "CAST(sum(CASE WHEN d.resolved THEN 1 ELSE 0 END) AS BIGINT) AS resolved, "
        "CAST(sum(CASE WHEN d.resolved AND coalesce(d.kind, '') <> 'seed' THEN 1 ELSE 0 END) AS BIGINT) AS grown "
        "FROM service_deployments AS d JOIN measured_days AS c ON c.day = d.day "
        "JOIN subjects AS s ON s.subject_kind = 'service' AND s.subject = d.service "
        "WHERE d.outcome = 'success' GROUP BY s.subject_number, c.quarter_number"
    )
    for scope in SCOPES:
        if (belonging := grid.belonging.get(("service", scope))) is None:
            continue
        row, place = belonging.places(cell, quarters)
        for table, count in zip(tables, counts, strict=True):
            np.add.at(table.reshape(-1), place, count if row is None else count[row])
    return deployed


class Reasoning:
    """Gives the first reason that applies, from what was collected and what was deployed."""

    def __init__(self, snapshot: Snapshot, grid: Grid, live: BoolArray, begun: BoolArray, deployed: Deployed) -> None:
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
    said: dict[int, tuple[int, str]] = {}
    for place, number, rows in zip(*(column.tolist() for column in (tally.places, tally.why, tally.rows)), strict=True):
        reason = tally.reasons[number]
        if reason not in _OUTCOMES:
            said[place] = min(said.get(place, (0, reason)), (-rows, reason))
    return {place: reason for place, (_, reason) in said.items()}
