"""What SBOMs of deployed artifacts say that somebody should look at: schema, subject, age, licences, vulnerabilities.

A component that stays over many deployments is one finding of its service, at the latest deployment that has it.
Source: supply-chain.md section 2 (joins nobody has; licence policy and vulnerabilities).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, pairwise

import duckdb

from analytics import progress
from analytics.settings import Settings
from analytics.supply_chain.deployments import Judged
from analytics.supply_chain.findings import REMEDIATION, SEVERITY_ORDER, Finding, finding_id
from analytics.supply_chain.joining import Shipped
from analytics.supply_chain.rules import Policy, Severity
from analytics.supply_chain.sbom_reading import (
    VALID,
    KeptComponent,
    SbomRead,
    Sboms,
    components_of,
    keep_components,
)
from analytics.supply_chain.sboms.facts import Component
from analytics.supply_chain.sboms.identifiers import parsed_purl
from analytics.supply_chain.sboms.licences import LicencePolicy, judge_licences
from analytics.supply_chain.sboms.quality import label
from analytics.supply_chain.sboms.vulnerabilities import (
    PackageKey,
    Vulnerability,
    VulnerabilityIndex,
    load_vulnerabilities,
    package_keys,
)

# A jump among a handful of components is none.
_FEWEST_COMPONENTS = 10


@dataclass(frozen=True)
class _Context:
    owners: Mapping[str, str | None]
    sboms: Sboms
    committed_at: Mapping[tuple[str, str], datetime]
    components: Callable[[str], Sequence[KeptComponent]]
    vulnerabilities: VulnerabilityIndex
    now: datetime


def judge_contents(
    settings: Settings,
    con: duckdb.DuckDBPyConnection,
    judged: Sequence[Judged],
    sboms: Sboms,
    owners: Mapping[str, str | None],
    now: datetime,
) -> list[Finding]:
    """Findings from the SBOMs of every deployment, service by service; needs the views commits and sbom_components.

    Raises SettingsError for a folder of OSV records, a KEV or an EPSS list that cannot be read.
    """
    chain = settings.supply_chain
    deployed = [one for one in judged if one.shipped.digest in sboms.any_of_digest]
    if not deployed:
        return []
    keep_components(con, {sboms.any_of_digest[one.shipped.digest or ""] for one in deployed})
    vulnerabilities = load_vulnerabilities(chain.osv, chain.kev, chain.epss, _packages(con) if chain.osv else None)
    if vulnerabilities.unread:
        words = f"{len(vulnerabilities.unread):,} OSV records cannot be read, the rest counts; the first is"
        progress.report("verify", f"{words} {vulnerabilities.unread[0]}")
    context = _Context(
        owners,
        sboms,
        _commit_times(con, deployed),
        partial(components_of, con),
        vulnerabilities,
        now,
    )
    found: list[Finding] = []
    for _, group in groupby(deployed, key=lambda one: one.shipped.deployed.service):
        of_service = list(group)
        found += _of_documents(of_service, context)
        # A component stays over deployments: the rules of the newest of them count.
        found += _of_components(of_service, context, of_service[-1].policy)
    return found


def _packages(con: duckdb.DuckDBPyConnection) -> frozenset[PackageKey]:
    """Every package that some judged component is."""
    purls = con.execute("SELECT DISTINCT purl FROM judged_components WHERE purl IS NOT NULL").fetchall()
    parsed = (parsed_purl(text)[0] for (text,) in purls)
    return frozenset(key for purl in parsed if purl is not None for key in package_keys(purl))


def _commit_times(con: duckdb.DuckDBPyConnection, judged: Sequence[Judged]) -> dict[tuple[str, str], datetime]:
    shas = sorted({sha for one in judged if (sha := one.shipped.deployed.source_sha)})
    rows = con.execute(
        "SELECT lower(repository), sha, committed_at FROM commits WHERE sha IN (SELECT unnest(?::VARCHAR[]))", [shas]
    ).fetchall()
    return {(repository, sha): at for repository, sha, at in rows}


def _of_documents(judged: Sequence[Judged], context: _Context) -> Iterator[Finding]:
    """Schema, subject and age of each deployment's SBOM, and jumps between one deployment and the next."""
    before: SbomRead | None = None
    for one in judged:
        shipped, policy = one.shipped, one.policy
        digest = shipped.digest or ""
        read = context.sboms.documents[context.sboms.any_of_digest[digest]]
        if read.verdict != VALID:
            yield _finding("sbom_schema", shipped, context, policy, read.reason, read, verdict=read.verdict)
            continue
        if read.subject_digests and digest not in read.subject_digests:
            named = ", ".join(sorted(read.subject_digests)[:3])
            words = f"The SBOM describes {named}; what was deployed is {digest}."
            yield _finding("sbom_subject", shipped, context, policy, words, read, expected=digest, found=named)
        if (reason := _age(shipped, read, context, policy)) is not None:
            yield _finding("sbom_age", shipped, context, policy, reason, read)
        if before is not None and before.sha256 != read.sha256 and (reason := _jump(before, read, policy)) is not None:
            yield _finding("component_count", shipped, context, policy, reason, read)
        before = read


def _age(shipped: Shipped, read: SbomRead, context: _Context, policy: Policy) -> str | None:
    """An SBOM from before the commit describes something else; a very old one says little."""
    deployed = shipped.deployed
    committed_at = context.committed_at.get((deployed.source_repository.casefold(), deployed.source_sha or ""))
    if read.made_at is None:
        return None
    if committed_at is not None and read.made_at < committed_at:
        return (
            f"The SBOM was made at {read.made_at:%Y-%m-%d %H:%M} UTC, before the commit that it should describe "
            f"({committed_at:%Y-%m-%d %H:%M} UTC)."
        )
    limit = timedelta(days=policy.rules.sbom_max_age_days)
    if deployed.finished_at is not None and deployed.finished_at - read.made_at > limit:
        days = (deployed.finished_at - read.made_at).days
        return f"The SBOM was {days} days old when the artifact was deployed; the policy allows {limit.days}."
    return None


def _jump(before: SbomRead, read: SbomRead, policy: Policy) -> str | None:
    most = max(before.component_count, read.component_count)
    change = abs(before.component_count - read.component_count)
    if most < _FEWEST_COMPONENTS or change <= policy.rules.component_change_share * before.component_count:
        return None
    return f"The deployment before had {before.component_count:,} components, this one has {read.component_count:,}."


def _of_components(judged: Sequence[Judged], context: _Context, policy: Policy) -> list[Finding]:
    """Licences and vulnerabilities, each component of a service once, from its first deployment to its last."""
    rules = policy.rules
    lists = LicencePolicy(tuple(rules.licenses.allow), tuple(rules.licenses.deny), tuple(rules.licenses.review))
    has_lists = bool(rules.licenses.allow or rules.licenses.deny or rules.licenses.review)
    found: dict[str, Finding] = {}
    kept: dict[str, list[tuple[str, Severity, str, Component, str | None]]] = {}
    for one in judged:
        sha256 = context.sboms.of_digest.get(one.shipped.digest or "")
        if sha256 is None:
            continue
        if sha256 not in kept:
            components = context.components(sha256)
            kept[sha256] = [
                *(_licence_problems(components, lists, policy) if has_lists else ()),
                *_vulnerable(components, context.vulnerabilities, policy),
            ]
        read = context.sboms.documents[sha256]
        for rule, severity, reason, component, name in kept[sha256]:
            key = finding_id(rule, one.shipped.deployed.service, _package(component), name)
            fresh = replace(
                _finding(rule, one.shipped, context, policy, reason, read),
                id=key,
                severity=severity,
                component=label(component),
                found=name,
            )
            known = found.get(key)
            found[key] = replace(fresh, first_seen=known.first_seen) if known else fresh
    # What the newest deployment with an SBOM does not hold any more is not found any more: it was seen until the next
    # one after its own was live.
    told = {
        one.shipped.deployed.deployment_key: one.shipped.deployed
        for one in judged
        if (one.shipped.digest or "") in context.sboms.of_digest
    }
    after = {earlier.deployment_key: later for earlier, later in pairwise(told.values())}
    placed: list[Finding] = []
    for finding in found.values():
        later = after.get(finding.deployment_key or "")
        if later is not None:
            until = later.finished_at or finding.last_seen
            finding = replace(finding, state="fixed", is_live=False, last_seen=until)
        placed.append(finding)
    return placed


def _licence_problems(
    components: Sequence[KeptComponent], lists: LicencePolicy, policy: Policy
) -> Iterator[tuple[str, Severity, str, Component, str | None]]:
    # What was shipped is the organisation's own; its licence is no matter of what it is made of.
    for outcome in judge_licences((one.component for one in components if not one.is_subject), lists):
        if outcome.outcome == "allow":
            continue
        rule = "license_denied" if outcome.outcome == "deny" else "license_review"
        reason = f"{label(outcome.component)}: {outcome.reason}."
        yield rule, policy.severity(rule), reason, outcome.component, ", ".join(outcome.licences)[:200] or None


def _vulnerable(
    components: Sequence[KeptComponent], index: VulnerabilityIndex, policy: Policy
) -> Iterator[tuple[str, Severity, str, Component, str | None]]:
    threshold = SEVERITY_ORDER.index(policy.rules.vulnerabilities.threshold)
    for kept in components:
        component = kept.component
        for known in index.of(component.purl):
            if kept.settled & {known.id, *known.aliases}:
                # The SBOM's author says so, who answers for it by name.
                continue
            # One without a severity may be anything.
            severity = known.severity or policy.severity("vulnerability")
            counts = SEVERITY_ORDER.index(severity) <= threshold
            if counts or (known.is_exploited and policy.rules.vulnerabilities.known_exploited):
                yield "vulnerability", severity, _vulnerability_words(component, known), component, known.id


def _vulnerability_words(component: Component, known: Vulnerability) -> str:
    words = f"{label(component)} is affected by {known.id}"
    if known.cve and known.cve != known.id:
        words += f" ({known.cve})"
    if known.summary:
        words += f": {known.summary}"
    words = words.rstrip(".") + "."
    if known.is_exploited:
        words += " It is known to be exploited."
    if known.exploit_probability is not None:
        words += f" EPSS {known.exploit_probability:.1%}."
    return words + (f" Not affected from {', '.join(known.fixed[:3])}." if known.fixed else "")


def _package(component: Component) -> str:
    """The component whatever its version: an update that does not help is the same finding."""
    if component.purl is not None:
        return f"{component.purl.type}/{component.purl.namespace or ''}/{component.purl.name}"
    return component.name or component.path


def _finding(
    rule: str,
    shipped: Shipped,
    context: _Context,
    policy: Policy,
    reason: str,
    read: SbomRead | None,
    *,
    verdict: str | None = None,
    expected: str | None = None,
    found: str | None = None,
) -> Finding:
    deployed = shipped.deployed
    key = {"license_denied": "licenses", "license_review": "licenses", "vulnerability": "vulnerabilities"}.get(
        rule, rule
    )
    return Finding(
        id=finding_id(rule, deployed.service, deployed.deployment_key, shipped.digest, read.sha256 if read else None),
        rule=rule,
        verdict=verdict,
        severity=policy.severity(rule),
        service=deployed.service,
        deployment_id=deployed.deployment_id,
        deployment_key=deployed.deployment_key,
        repository=deployed.repository,
        digest=shipped.digest,
        join_kind=shipped.join_kind,
        reason=reason,
        remediation=REMEDIATION[rule],
        first_seen=deployed.finished_at,
        last_seen=context.now,
        is_live=True,
        sbom_sha256=read.sha256 if read else None,
        expected=expected,
        found=found,
        owner=context.owners.get(deployed.service),
        policy=policy.path.name if policy.path else None,
        policy_line=policy.line(key),
        policy_sha256=policy.sha256,
    )
