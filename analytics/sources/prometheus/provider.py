"""Prometheus behind the port: each named query over time, in spans that it answers at once.

A request is one query by its name. Samples stand on whole multiples of the step, so that what is asked again is the
same sample again. Source: ingestion.md section 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.port import Answered, Capabilities, Collected, Cursor, Page
from analytics.sources.prometheus.client import PrometheusClient, Series, TooMuchError
from analytics.sources.prometheus.translate import fingerprint, open_after, records_of, service_of, stretches
from analytics.sources.service_names import ServiceNames

# Prometheus answers up to 11,000 points of a series at once.
POINTS = 5_000
FEWEST_POINTS = 2
# As many samples as a page may hold records.
PAGE_SAMPLES = 10_000
# Rules are evaluated and samples shipped with some delay.
LAG_SECONDS = 300
# Without `since`: a quarter, and a little.
DEFAULT_DAYS = 100
ALERTS = "alerts"
_DAY = 86_400


@dataclass(frozen=True)
class Asked:
    """One query: what it is asked with, and which labels tell service and objective (or an alert's severity)."""

    query: str
    step_seconds: int
    service_label: str = "service"
    slo_label: str | None = None
    severity_label: str = "severity"


class PrometheusProvider:
    """The named queries of one server."""

    def __init__(
        self,
        name: str,
        client: PrometheusClient,
        slos: Mapping[str, Asked],
        alerts: Asked | None = None,
        services: ServiceNames | None = None,
        since: date | None = None,
    ) -> None:
        self._name = name
        self._client = client
        self._slos = dict(slos)
        self._alerts = alerts
        self._services = services or ServiceNames()
        self._since = int(datetime.combine(since, time(), UTC).timestamp()) if since else None
        self._now: int | None = None

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Samples of error budgets, and incidents where a query for alerts is given."""
        return Capabilities(frozenset({"slo_samples", *(["incidents"] if self._alerts else [])}))

    def discover(self) -> Collected:
        """The named queries; raises SourceError where the server does not tell its time."""
        self._now = self._client.now()
        requests: dict[str, Sequence[str]] = {"slo_samples": list(self._slos)} if self._slos else {}
        return Collected(requests | ({"incidents": [ALERTS]} if self._alerts else {}))

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of one query behind the last time that was read; from the beginning where the query is another one.

        Raises RateLimitedError with the time at which to go on, and SourceError for this query alone.
        """
        asked = self._alerts if entity == "incidents" and request_key == ALERTS else None
        if entity == "slo_samples":
            asked = self._slos.get(request_key)
        if asked is None:
            raise SourceError(f"has no query for {entity} named {request_key}", where=f"source {self._name}")
        now = self._now if self._now is not None else self._client.now()
        step, same = asked.step_seconds, _identity(asked)
        known = dict(cursor or {})
        if known.get("query") != same:
            known = {}
        beginning = self._since if self._since is not None else now - DEFAULT_DAYS * _DAY
        start = int(known["until"]) + step if known else -(-beginning // step) * step
        end = (now - LAG_SECONDS) // step * step
        points, still_open = POINTS, dict(known.get("open", {}))
        while start <= end:
            stop = min(start + (points - 1) * step, end)
            progress.report("pull", f"{self._name}: {request_key} since {datetime.fromtimestamp(start, UTC):%Y-%m-%d}")
            try:
                series = self._client.between(asked.query, start, stop, step)
            except TooMuchError as error:
                if points // 2 < FEWEST_POINTS:
                    raise SourceError(
                        error.what, where=f"{self._name}: {request_key}", fix="Let the query give fewer series."
                    ) from None
                points //= 2
                continue
            common = {"start": start, "end": stop, "step": step, "service_label": asked.service_label}
            if entity == "slo_samples":
                self._refuse_two_of_one(request_key, asked, series)
                bodies = [
                    {**common, "slo": request_key, "slo_label": asked.slo_label, "series": some}
                    for some in _groups(series)
                ]
            else:
                common["severity_label"] = asked.severity_label
                bodies = _alert_bodies(common, series, still_open)
                found = [firing for body in bodies for firing in stretches(body)]
                still_open = open_after(found)
            after = {"until": stop, "query": same, **({"open": still_open} if still_open else {})}
            for number, body in enumerate(bodies, start=1):
                is_last = number == len(bodies)
                yield self._page(entity, request_key, body, after if is_last else None)
            start = stop + step

    def _refuse_two_of_one(self, name: str, asked: Asked, series: Sequence[Series]) -> None:
        """Two series of one service and objective would overwrite each other."""
        seen: dict[tuple[str, str | None], dict[str, str]] = {}
        for one in series:
            service = service_of(one.labels, asked.service_label, self._services)
            if service is None:
                continue
            key = (service, one.labels.get(asked.slo_label) if asked.slo_label else None)
            if key in seen:
                raise SourceError(
                    f"the query gives several series for the service {service}: {seen[key]} and {one.labels}",
                    where=f"{self._name}: {name}",
                    fix=f"Aggregate it, like min by ({asked.service_label}) (…).",
                )
            seen[key] = one.labels

    def _page(self, entity: str, key: str, answer: dict[str, Any], cursor: Cursor | None) -> Page:
        kind = "alerts" if entity == "incidents" else "slo"
        body = self._client.host.kept(msgspec.json.encode(answer).decode())
        return Page(
            entity=entity,
            request_key=key,
            generation=1,
            records=records_of(kind, body, "", self._services)[entity],
            refusals=(),
            cursor=cursor,
            status=200,
            answered=Answered(kind, f"query_range of {key} from {answer['start']} to {answer['end']}", body),
            observed=True,
        )


def _identity(asked: Asked) -> str:
    said = [asked.query, asked.step_seconds, asked.service_label, asked.slo_label, asked.severity_label]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]


def _groups(series: Sequence[Series]) -> list[list[Series]]:
    """Series by pages; none of them is cut in two."""
    groups: list[list[Series]] = [[]]
    size = 0
    for one in series:
        if groups[-1] and size + len(one.values) > PAGE_SAMPLES:
            groups.append([])
            size = 0
        groups[-1].append(one)
        size += len(one.values)
    return groups


def _alert_bodies(
    common: dict[str, Any], series: Sequence[Series], still_open: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Each page with what was open of its own series; what fires no more goes with the last."""
    groups = _groups(series)
    left = dict(still_open)
    bodies = []
    for number, some in enumerate(groups, start=1):
        keys = {fingerprint(one.labels) for one in some}
        own = {key: left.pop(key) for key in list(left) if key in keys}
        if number == len(groups):
            own |= left
        plain = [{"labels": one.labels, "values": one.values} for one in some]
        bodies.append({**common, "open": own, "series": plain})
    return bodies
