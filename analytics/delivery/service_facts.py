"""All facts of one service from its records: the pure function that build (and any other engine) calls per service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from analytics.catalog import Service
from analytics.delivery.deployments import ServiceChain, group_attempts
from analytics.delivery.failures import FailureSearch
from analytics.delivery.history import History
from analytics.delivery.records import Attempt, Incident, PullRequestFacts, ReachRow, Rules, ServiceFacts

# A later build may begin again so many successful deployments back; what was reached before them is not kept.
KEPT_DEPLOYMENTS = 64


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
        reach=list(reach_rows(chain, {})),
    )


def reach_rows(chain: ServiceChain, counted_before: Mapping[str, bool]) -> Iterator[ReachRow]:
    """Commits that a chain over one repository has not reached, or reached by one of its last deployments.

    `counted_before` says of commits that were recorded before the chain was taken up whether they counted.
    """
    if len(chain.histories) != 1 or not chain.started or chain.live is None or chain.live.sequence is None:
        return
    ((folded, history),) = chain.histories.items()
    kept_after = chain.live.sequence - KEPT_DEPLOYMENTS
    reached = {number: at for at, _, numbers in chain.reached if at > kept_after for number in numbers}
    counted = {**counted_before, **{own.sha: own.excluded != "merge_commit" for own in chain.owned}}
    seen = chain.seen[folded]
    for number, commit in enumerate(history.commits):
        sequence = reached.get(number)
        if sequence is None and seen[number]:
            continue
        owner = chain.owner.get((folded, commit.sha))
        yield ReachRow(commit.sha, sequence, owner.sequence if owner else None, counted.get(commit.sha))
