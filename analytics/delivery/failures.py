"""Which deployments failed, by which evidence, how they recovered, and which were unplanned remediation.

Source: metrics.md section 2 (change fail rate, recovery, rework) and section 8 (links, rework and hotfixes).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate

from analytics.catalog import Service
from analytics.delivery.deployments import ServiceChain
from analytics.delivery.history import History
from analytics.delivery.incidents import pull_request_number
from analytics.delivery.records import (
    Deployment,
    ExplicitLink,
    FailureLink,
    Incident,
    IncidentRow,
    PullRequestFacts,
    Rules,
)
from analytics.globs import name_matches

METHOD_ORDER = ("override", "explicit", "rollback", "revert", "hotfix", "time", "failed_attempt")
_CONFIDENCE = {"time": "low", "hotfix": "medium", "rollback": "medium", "revert": "medium"}


class FailureSearch:
    """Finds the failures of one service from its chain of deployments and its incidents."""

    def __init__(
        self,
        service: Service,
        deployments: Sequence[Deployment],
        chain: ServiceChain,
        pull_requests: Mapping[str, Sequence[PullRequestFacts]],
        rules: Rules,
    ) -> None:
        self.service = service
        self.rules = rules
        self.chain = chain
        self.all = deployments
        self.successes = sorted((d for d in deployments if d.outcome == "success"), key=lambda d: d.order)
        self.position = {d.key: number for number, d in enumerate(self.successes)}
        # The latest deployment that started by a moment is the last one at which this (rising) minimum is not past it.
        self._earliest_start_from = list(accumulate((d.rollout_start for d in reversed(self.successes)), func=min))[
            ::-1
        ]
        self._by_sha: dict[str, list[Deployment]] = {}
        for deployment in self.successes:
            for sha in {deployment.sha, *deployment.revisions.values()}:
                self._by_sha.setdefault(sha, []).append(deployment)
        self.by_source: dict[str, Deployment] = {}
        for deployment in deployments:
            for name in source_names(deployment):
                self.by_source.setdefault(name, deployment)
        self.requests = {
            (repository.casefold(), request.number): request
            for repository, requests in pull_requests.items()
            for request in requests
        }
        # A revert that was shipped before by a pick takes nothing back a second time.
        self._picked = {(c.repository, c.sha) for c in chain.owned if c.excluded == "cherry_picked"}
        self.links: list[FailureLink] = []
        self.incident_rows: list[IncidentRow] = []
        self.linked_incidents: dict[str, list[Incident]] = {}

    def run(self, incidents: Sequence[Incident]) -> None:
        """Find evidence, then decide failure, recovery and rework of every deployment."""
        self._rework()
        for incident in incidents:
            self._link(incident)
        self._failed_attempts()
        self._override()
        self._decide()

    # Remediation: rules 2 and 3 ------------------------------------------------------------------------------

    def _rework(self) -> None:
        for deployment in self.successes:
            blamed: list[tuple[str, Deployment, str]] = []
            if deployment.kind == "rollback" and deployment.rollback_target is not None:
                target = deployment.rollback_target
                self._set_rework(deployment, "rollback", f"went back to {target.sha} of deployment {target.key}")
                culprit = self._first_change_between(target, deployment)
                if culprit is not None:
                    blamed.append(("rollback", culprit, f"rolled back by {deployment.key} to {target.key}"))
            for sha, culprit in self._reverted(deployment):
                self._set_rework(deployment, "revert", f"reverts {sha}")
                if culprit is not None:
                    blamed.append(("revert", culprit, f"commit {sha} was reverted by {deployment.key}"))
            sign = self._hotfix_sign(deployment)
            if sign is not None:
                self._set_rework(deployment, "hotfix", sign)
                if not blamed and (before := self._deployed_before(deployment)) is not None:
                    blamed.append(("hotfix", before, f"followed by hotfix {deployment.key} ({sign})"))
            for method, culprit, evidence in blamed:
                deployment.blames = deployment.blames or culprit
                self.links.append(
                    FailureLink(culprit, method, _CONFIDENCE[method], evidence, deployment.at, by=deployment)
                )

    @staticmethod
    def _set_rework(deployment: Deployment, kind: str, evidence: str) -> None:
        if deployment.rework is None:
            deployment.rework, deployment.rework_evidence = kind, evidence

    def _deployed_before(self, deployment: Deployment) -> Deployment | None:
        before = self.position[deployment.key] - 1
        return self.successes[before] if before >= 0 else None

    def _first_change_between(self, target: Deployment, rollback: Deployment) -> Deployment | None:
        between = self.successes[self.position[target.key] + 1 : self.position[rollback.key]]
        return next((deployment for deployment in between if deployment.kind == "change"), None)

    def _reverted(self, deployment: Deployment) -> list[tuple[str, Deployment | None]]:
        """Commits of earlier deployments that this one takes back, with the deployment that shipped each."""
        reverts: dict[tuple[str, str], str] = {}
        for folded, number in deployment.new_commits:
            history = self.chain.histories[folded]
            if (folded, history.commits[number].sha) in self._picked:
                continue
            for target in self._revert_targets(folded, history, number):
                reverts[folded, target] = history.commits[number].sha
        # A revert that this very deployment takes back again has no effect.
        undone = {sha for (_, sha) in reverts if sha in reverts.values()}
        found: list[tuple[str, Deployment | None]] = []
        for (folded, target), by in sorted(reverts.items()):
            history = self.chain.histories[folded]
            reverted = history.find(target)
            if by in undone or reverted is None:
                continue
            if self._revert_targets(folded, history, reverted):
                # Taking a revert back brings a change in again; nothing failed.
                continue
            owner = self.chain.owner.get((folded, target))
            if owner is deployment or not self.chain.seen[folded][reverted]:
                continue
            found.append((target, owner))
        return found

    def _revert_targets(self, folded: str, history: History, number: int) -> list[str]:
        commit = history.commits[number]
        targets = [sha for text in commit.reverts if (sha := history.full_sha(text)) is not None]
        for pull_request in commit.reverts_pull_requests:
            request = self.requests.get((folded, pull_request))
            if request is not None and request.merge_commit_sha:
                targets.append(request.merge_commit_sha)
        return targets

    def _hotfix_sign(self, deployment: Deployment) -> str | None:
        rule = self.rules.rework
        for label in deployment.labels:
            if name_matches(label, rule.labels):
                return f"label {label}"
        ref = (deployment.ref or "").removeprefix("refs/heads/")
        if ref and name_matches(ref, rule.branches):
            return f"branch {ref}"
        for (_, number), request in sorted(deployment.pull_requests.items()):
            for label in request.labels:
                if name_matches(label, rule.labels):
                    return f"label {label} of pull request {number}"
            if name_matches(request.head_ref, rule.branches):
                return f"branch {request.head_ref} of pull request {number}"
            if name_matches(request.title, rule.titles):
                return f"title of pull request {number}"
        return None

    # Incidents: rules 1 and 4 --------------------------------------------------------------------------------

    def _link(self, incident: Incident) -> None:
        own = incident.service in (None, self.service.name)
        found: list[tuple[str, str, Deployment, str]] = []
        reason: str | None = None
        for link in incident.links:
            deployment, problem = self._named(link, incident)
            if deployment is not None:
                found.append(("explicit", "high", deployment, f"incident names {link.kind} {link.value}"))
            else:
                reason = reason or problem
        if not incident.links:
            fixes = [fix for name in incident.fixed_by if (fix := self.by_source.get(name)) is not None]
            remedy = next((fix for fix in fixes if fix.blames is not None), None)
            if remedy is not None and remedy.blames is not None:
                method = remedy.rework if remedy.rework in ("rollback", "revert", "hotfix") else "hotfix"
                found.append((method, "medium", remedy.blames, f"fixed by {remedy.key}, which blames it"))
            elif own and incident.service is not None:
                deployment, problem = self._by_time(incident)
                if deployment is not None:
                    hours = self.rules.window(self.service).total_seconds() / 3600
                    found.append(("time", "low", deployment, f"impact began within {hours:g} h of this deployment"))
                reason = problem
        for name in incident.fixed_by:
            fix = self.by_source.get(name)
            if fix is not None and fix.outcome == "success":
                self._set_rework(fix, "incident_fix", f"fixes incident {', '.join(incident.ids)}")
        counted = {}
        for method, confidence, deployment, evidence in found:
            if deployment.key not in counted:
                counted[deployment.key] = deployment
                text = f"{evidence}; incident {', '.join(incident.ids)}"
                self.links.append(
                    FailureLink(deployment, method, confidence, text, incident.impact_started_at, incident.key)
                )
                self.linked_incidents.setdefault(deployment.key, []).append(incident)
        if own and (incident.service is not None or counted):
            key = next(iter(counted), None)
            self.incident_rows.append(
                IncidentRow(self.service.name, incident, key, None if key else reason or "no_deployment_before")
            )

    def _named(self, link: ExplicitLink, incident: Incident) -> tuple[Deployment | None, str]:
        if link.kind == "deployment":
            named = self.by_source.get(link.value)
            if named is None:
                return None, "unknown_deployment"
        elif link.kind == "sha":
            named = self._of_sha(link.value, incident.impact_started_at)
            if named is None:
                return None, "unknown_sha"
        elif link.kind == "pull_request":
            named = self._of_pull_request(link.value)
            if named is None:
                return None, "unknown_pull_request"
        else:
            named = next((d for d in reversed(self.successes) if is_version(d, link.value)), None)
            if named is None:
                return None, "unknown_version"
        if named.outcome != "success" and not self.service.failed_attempt_is_failure:
            return None, "deployment_not_successful"
        return named, ""

    def _of_sha(self, sha: str, at: datetime) -> Deployment | None:
        same = self._by_sha.get(sha, [])
        before = [d for d in same if d.rollout_start <= at]
        if same:
            return before[-1] if before else same[0]
        for folded in self.chain.histories:
            if owner := self.chain.owner.get((folded, sha)):
                return owner
        return None

    def _of_pull_request(self, text: str) -> Deployment | None:
        number = pull_request_number(text)
        if number is None:
            return None
        for folded in self.chain.histories:
            request = self.requests.get((folded, number))
            if request is None or (("/" in text) and folded not in text.casefold()):
                continue
            for sha in (request.merge_commit_sha, *request.commits):
                if sha and (owner := self.chain.owner.get((folded, sha))):
                    return owner
        return None

    def _by_time(self, incident: Incident) -> tuple[Deployment | None, str]:
        number = bisect_right(self._earliest_start_from, incident.impact_started_at) - 1
        if number < 0:
            return None, "no_deployment_before"
        latest = self.successes[number]
        if incident.impact_started_at - latest.at > self.rules.window(self.service):
            return None, "outside_window"
        return latest, ""

    # Verdicts ------------------------------------------------------------------------------------------------

    def _failed_attempts(self) -> None:
        if not self.service.failed_attempt_is_failure:
            return
        for deployment in self.all:
            if deployment.outcome == "failure":
                deployment.counts_as_failed_attempt = True
                self.links.append(
                    FailureLink(
                        deployment, "failed_attempt", "high", "the service counts failed attempts", deployment.at
                    )
                )

    def _override(self) -> None:
        for override in self.rules.overrides:
            for number, link in enumerate(self.links):
                named = override.deployment_id in source_names(link.deployment) if override.deployment_id else True
                incident = (
                    link.incident_key is not None
                    and any(
                        override.incident_id in known.ids
                        for known in self.linked_incidents.get(link.deployment.key, ())
                        if known.key == link.incident_key
                    )
                    if override.incident_id
                    else True
                )
                if not override.failed and named and incident:
                    self.links[number] = FailureLink(
                        link.deployment,
                        link.method,
                        link.confidence,
                        f"{link.evidence}; set aside: {override.reason}",
                        link.at,
                        link.incident_key,
                        link.by,
                        counted=False,
                    )
            if override.failed and override.deployment_id:
                deployment = self.by_source.get(override.deployment_id)
                if deployment is not None and (deployment.outcome == "success" or deployment.counts_as_failed_attempt):
                    self.links.append(FailureLink(deployment, "override", "high", override.reason, deployment.at))

    def _decide(self) -> None:
        by_deployment: dict[str, list[FailureLink]] = {}
        for link in self.links:
            if link.counted:
                by_deployment.setdefault(link.deployment.key, []).append(link)
        for links in by_deployment.values():
            links.sort(key=lambda link: (METHOD_ORDER.index(link.method), link.at, link.evidence))
            deployment = links[0].deployment
            deployment.failed = True
            deployment.failure_method = links[0].method
            deployment.failure_evidence = "; ".join(dict.fromkeys(link.evidence for link in links))
            self._recover(deployment, links)

    def _recover(self, deployment: Deployment, links: list[FailureLink]) -> None:
        keys = {link.incident_key for link in links if link.incident_key}
        incidents = [i for i in self.linked_incidents.get(deployment.key, ()) if i.key in keys]
        if incidents:
            ends = [incident.ended_at for incident in incidents]
            known = [end for end in ends if end is not None]
            end = max(known) if len(known) == len(ends) else None
        else:
            remedies = [link.by.at for link in links if link.by is not None]
            if not remedies and deployment.outcome != "success":
                # A failed attempt is over when the service is next deployed.
                remedies = [d.at for d in self.successes if d.at > deployment.at][:1]
            end = min(remedies, default=None)
        if end is None:
            deployment.recovery_open = True
        elif deployment.outcome == "success" and deployment.finished_at is None:
            deployment.recovery_excluded = "finish_unknown"
        elif end < deployment.at:
            deployment.recovery_excluded = "recovered_before_finish"
        else:
            deployment.recovered_at = end


def source_names(deployment: Deployment) -> list[str]:
    """Every id by which a person may name a deployment: its key, its source ids and its run."""
    names = [deployment.key]
    for attempt in deployment.attempts:
        names += [name for name in (attempt.source_deployment_id, attempt.run_id) if name]
    return list(dict.fromkeys(names))


def is_version(deployment: Deployment, version: str) -> bool:
    """Whether a deployment is of a version: its ref, or the last part of it."""
    ref = deployment.ref or ""
    return version in (ref, ref.rsplit("/", 1)[-1])
