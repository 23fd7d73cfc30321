"""All facts of one service from its records: the pure function that build (and any other engine) calls per service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analytics.catalog import Service
from analytics.delivery.deployments import ServiceChain, group_attempts
from analytics.delivery.failures import FailureSearch
from analytics.delivery.history import History
from analytics.delivery.records import Attempt, Incident, PullRequestFacts, Rules, ServiceFacts


def derive_service(
    service: Service,
    attempts: Sequence[Attempt],
    histories: Mapping[str, History],
    pull_requests: Mapping[str, Sequence[PullRequestFacts]],
    incidents: Sequence[Incident],
    rules: Rules,
) -> ServiceFacts:
    """Deployments with kind and owned commits, then failures, recovery and rework.

    The result depends on the records only, never on the order in which they are given (metrics.md I5).
    """
    deployments = group_attempts(service, attempts)
    chain = ServiceChain(service, histories, pull_requests)
    chain.extend(d for d in deployments if d.outcome == "success")
    search = FailureSearch(service, deployments, chain, pull_requests, rules)
    search.run(sorted(incidents, key=lambda incident: (incident.impact_started_at, incident.key)))
    return ServiceFacts(
        service=service,
        deployments=deployments,
        commits=chain.owned,
        links=search.links,
        incidents=search.incident_rows,
    )
