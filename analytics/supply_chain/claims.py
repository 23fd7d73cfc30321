"""Claims against the certificate: does the predicate tell the same story as the identity that signed it.

A real attack signs a copy of somebody's true provenance from another repository: signature, log and certificate are
genuine and only this comparison shows it (supply-chain.md section 1). What differs for good reason is allowed:

- a reusable workflow signs, in another repository: its address is the builder, the caller's repository the source;
- a builder's id may be anything its author chose; it is compared only where it is a workflow, a run or GitHub's runner;
- the ref of the workflow file may stand for the ref of the source;
- names of repositories and owners differ in case.

A claim for which the certificate has no counterpart is left open: it is no contradiction, and it proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from analytics.supply_chain.certificates import CertificateFacts
from analytics.supply_chain.statements import (
    BUILDER,
    COMMIT,
    OWNER_ID,
    REF,
    REPOSITORY,
    REPOSITORY_ID,
    RUN,
    RUNNER,
    TRIGGER,
    Claim,
    repository_key,
)

PUBLISHER = "publisher"
_USUAL_ADDRESS = 500

_RUN_URL = re.compile(
    r"https://(?P<repository>[^/]+/[^/]+/[^/]+)/actions/runs/(?P<run>\d+)(?:/attempts/(?P<attempt>\d+))?/?"
)
_JOB_URL = re.compile(r"https://[^/]+/.+/-/jobs/(?P<job>\d+)")
_RUN_AND_ATTEMPT = re.compile(r"(?P<run>\d+)-(?P<attempt>\d+)")
_WORKFLOW = re.compile(r"https://(?P<repository>[^/]+/[^/]+/[^/]+)/(?P<path>\.github/workflows/[^@]+)(?:@(?P<ref>.+))?")
_GITHUB_RUNNER = re.compile(r"https://github\.com/actions/runner/(?P<environment>[a-z-]+)")


@dataclass(frozen=True, slots=True)
class CheckedClaim:
    """One claim, what the certificate says instead (None when it is silent), and whether they agree (None: open)."""

    name: str
    claimed: str
    place: str
    certified: str | None
    agrees: bool | None


def check_claims(claims: Iterable[Claim], facts: CertificateFacts) -> tuple[CheckedClaim, ...]:
    """Each claim held against the certificate."""
    checked = []
    for claim in claims:
        certified, agrees = _CHECKS[claim.name](claim.value, facts)
        checked.append(CheckedClaim(claim.name, claim.value, claim.place, certified, agrees))
    return tuple(checked)


def publisher_claims(publisher: Mapping[str, Any] | None) -> tuple[Claim, ...]:
    """What an index says about a PEP 740 attestation's publisher, as claims on the certificate."""
    hosts = {"GitHub": "https://github.com/", "GitLab": "https://gitlab.com/"}
    if publisher is None:
        return ()
    kind, repository, email = (publisher.get(key) for key in ("kind", "repository", "email"))
    if isinstance(kind, str) and kind in hosts and isinstance(repository, str):
        return (Claim(REPOSITORY, hosts[kind] + repository, "publisher.repository"),)
    if kind == "Google" and isinstance(email, str):
        return (Claim(PUBLISHER, email, "publisher.email"),)
    return ()


def same_workflow(one: str, other: str) -> bool:
    """Whether two workflow addresses are one: repository case-folded, path and ref exact, no ref matching any."""
    first, second = _workflow(one), _workflow(other)
    if first is None or second is None:
        return one == other
    if first["repository"].casefold() != second["repository"].casefold() or first["path"] != second["path"]:
        return False
    return first["ref"] is None or second["ref"] is None or first["ref"] == second["ref"]


def _workflow(address: str) -> re.Match[str] | None:
    """A workflow's address in its parts; the same few sign most of what is signed, and a claim may be any text."""
    return _known_workflow(address) if len(address) <= _USUAL_ADDRESS else _WORKFLOW.fullmatch(address)


_known_workflow = lru_cache(maxsize=4_096)(_WORKFLOW.fullmatch)


_Checked = tuple[str | None, bool | None]


def _equal(claimed: str, certified: str | None) -> _Checked:
    return certified, None if certified is None else claimed == certified


def _repository(claimed: str, facts: CertificateFacts) -> _Checked:
    certified = facts.source_repository
    if certified is None and facts.source_repository_v1 is not None:
        certified = f"https://github.com/{facts.source_repository_v1}"
    if certified is None:
        return None, None
    key, expected = repository_key(claimed), repository_key(certified)
    if ":" not in claimed:
        # GITHUB_REPOSITORY is the name without the host.
        return certified, claimed.strip("/").casefold() in (urlsplit(certified).path.strip("/").casefold(), expected)
    # What is no address at all (a package URL, say) cannot be held against one.
    return certified, None if key is None else key == expected


def _commit(claimed: str, facts: CertificateFacts) -> _Checked:
    return _equal(claimed.lower(), facts.source_commit or facts.source_commit_v1)


def _ref(claimed: str, facts: CertificateFacts) -> _Checked:
    certified = facts.source_ref or facts.source_ref_v1
    if certified is None:
        return None, None
    of_workflow = (facts.build_config or "").partition("@")[2]
    return certified, claimed in (certified, of_workflow)


def _run(claimed: str, facts: CertificateFacts) -> _Checked:
    certified = facts.run_invocation
    if certified is None:
        return None, None
    run = _RUN_URL.fullmatch(certified)
    if run is None:
        job = _JOB_URL.fullmatch(certified)
        if job is not None and (claimed.isdecimal() or _JOB_URL.fullmatch(claimed)):
            return certified, claimed in (job["job"], certified)
        return certified, None
    if claimed.isdecimal():
        return certified, claimed == run["run"]
    url, pair = _RUN_URL.fullmatch(claimed), _RUN_AND_ATTEMPT.fullmatch(claimed)
    found = url or pair
    if found is None:
        return certified, None
    if url is not None and url["repository"].casefold() != run["repository"].casefold():
        return certified, False
    same_attempt = None in (found["attempt"], run["attempt"]) or found["attempt"] == run["attempt"]
    return certified, found["run"] == run["run"] and same_attempt


def _builder(claimed: str, facts: CertificateFacts) -> _Checked:
    runner = _GITHUB_RUNNER.fullmatch(claimed)
    if runner is not None:
        return _equal(runner["environment"], facts.runner_environment)
    if _RUN_URL.fullmatch(claimed):
        return _run(claimed, facts)
    if not _workflow(claimed):
        return facts.build_signer, None
    workflows = [text for text in (facts.build_signer, *facts.identities, facts.build_config) if text]
    signers = [text for text in workflows if _workflow(text)]
    if not signers:
        return facts.build_signer, None
    return signers[0], any(same_workflow(claimed, signer) for signer in signers)


def _publisher(claimed: str, facts: CertificateFacts) -> _Checked:
    return ", ".join(facts.identities) or None, claimed in facts.identities


_CHECKS: dict[str, Callable[[str, CertificateFacts], _Checked]] = {
    REPOSITORY: _repository,
    REPOSITORY_ID: lambda claimed, facts: _equal(claimed, facts.source_repository_id),
    OWNER_ID: lambda claimed, facts: _equal(claimed, facts.source_owner_id),
    COMMIT: _commit,
    REF: _ref,
    RUN: _run,
    TRIGGER: lambda claimed, facts: _equal(claimed, facts.build_trigger or facts.trigger_v1),
    BUILDER: _builder,
    RUNNER: lambda claimed, facts: _equal(claimed, facts.runner_environment),
    PUBLISHER: _publisher,
}
