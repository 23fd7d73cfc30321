"""Judging what an attestation says against a policy: facts in, one check after another out, and the verdict of them.

Cryptography happens elsewhere and once; here are no keys and no files, so that a changed policy judges all of history
again in no time. Source: supply-chain.md section 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

from analytics.globs import path_matches
from analytics.supply_chain.facts import AttestedFacts, Claims, DeploymentFacts
from analytics.supply_chain.rules import OWN_REPOSITORY, Policy, Severity

__all__ = [
    "VERDICT_ORDER",
    "AttestedFacts",
    "Check",
    "Claims",
    "DeploymentFacts",
    "Judgement",
    "choose",
    "evaluate",
    "evaluate_absent",
    "kind_of",
    "slsa_level",
    "verdict_of",
]

Outcome = Literal["passed", "failed", "not_applicable"]
Kind = Literal["provenance", "sbom", "other"]

# Gravest first. The verdict of an attestation is the gravest of its failed checks; that of a deployment which no
# attestation passes is the gravest of its attestations'. What may be an attack stands before what is out of policy,
# that before what could not be judged, and what is merely missing stands last.
VERDICT_ORDER = (
    "FORGED_CLAIMS",
    "INVALID_SIGNATURE",
    "INVALID_CERT",
    "INVALID_LOG",
    "INVALID_TIME",
    "INVALID_SUBJECT",
    "UNTRUSTED_ISSUER",
    "UNTRUSTED_SOURCE",
    "UNTRUSTED_SIGNER",
    "COMMIT_MISMATCH",
    "RUN_UNKNOWN",
    "UNTRUSTED_TRIGGER",
    "UNTRUSTED_REF",
    "UNTRUSTED_BUILDER",
    "UNTRUSTED_RUNNER",
    "ATTESTED_AFTER_DEPLOY",
    "UNSUPPORTED_NO_PROOF",
    "UNSUPPORTED_LOG_ENTRY",
    "UNSUPPORTED_MANAGED_KEY",
    "UNSUPPORTED_NOT_A_BUNDLE",
    "ERROR_FETCH",
    "NO_ATTESTATION",
    "VERIFIED_PRIVATE",
    "VERIFIED",
)
VERIFIED = ("VERIFIED", "VERIFIED_PRIVATE")
NOT_ASKED = "No source of attestations is configured, so that none was looked for."

# Cryptography's verdicts by the check that they fail. FORGED_CLAIMS and INVALID_SUBJECT are said of a bundle whose
# signature, log and certificate hold, so that everything else can still be judged.
_FAILS = {
    "INVALID_SIGNATURE": "signature",
    "INVALID_LOG": "log",
    "INVALID_TIME": "log",
    "INVALID_CERT": "certificate",
}
_AUTHENTIC = (*VERIFIED, "FORGED_CLAIMS", "INVALID_SUBJECT")
# Asked of the deployment, whichever attestation is looked at.
_OF_DEPLOYMENT = ("attestation", "sbom")
_RUN_ID = re.compile(r"/actions/runs/(\d+)(?:/attempts/\d+)?$|/-/(?:jobs|pipelines)/(\d+)$")
_RUNNER_AS_BUILDER = "https://github.com/actions/runner/"


@dataclass(frozen=True, slots=True)
class Check:
    """One question asked, with its evidence. `verdict` is what a failure makes of the attestation, None if nothing.

    `policy_line` is the line of the policy file that decided, None where a default or no policy did. `note` says what
    a reader should know although nothing failed.
    """

    name: str
    outcome: Outcome
    severity: Severity
    verdict: str | None = None
    expected: str | None = None
    found: str | None = None
    policy_line: int | None = None
    note: str | None = None

    @property
    def failed(self) -> bool:
        """Whether this is a finding."""
        return self.outcome == "failed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A deployment's verdict, the verdict of each attestation behind it, and every check that failed in any.

    `decided_by` is the index of the attestation whose verdict it is, None when there was none. A failure stands with
    the index of its attestation, or None where it is the deployment's own (a missing SBOM) and was met in each.
    """

    verdict: str
    decided_by: int | None
    verdicts: tuple[str, ...]
    failures: tuple[tuple[int | None, Check], ...]


def kind_of(predicate_type: str | None, policy: Policy) -> Kind:
    """What an attestation is about, by its predicate type."""
    if _matches_one(predicate_type, policy.rules.predicate_types):
        return "provenance"
    return "sbom" if _matches_one(predicate_type, policy.rules.sbom_predicate_types) else "other"


def slsa_level(facts: AttestedFacts, policy: Policy) -> int | None:
    """The SLSA Build level that the policy gives the builder; None for an unknown one.

    A runner that the policy does not accept is no platform of its own, and makes no more than level 1 of any builder.
    """
    builder = facts.builder_id or facts.signer_uri
    for known in policy.rules.builders:
        if _matches_one(builder, [known.id]):
            return known.level if facts.runner_environment in policy.rules.runner_environments else min(known.level, 1)
    return None


def evaluate(
    facts: AttestedFacts, deployment: DeploymentFacts, policy: Policy, *, kind: Kind = "provenance"
) -> tuple[Check, ...]:
    """Every check over one attestation of a deployment, in the order in which a reader asks.

    Where the signature does not hold, nothing that was signed counts and its checks are not applicable; nor are they
    for a predicate of another kind than asked for: it is no evidence of how the artifact was built.
    """
    return tuple(_Judge(facts, deployment, policy, kind).checks())


def evaluate_absent(deployment: DeploymentFacts, policy: Policy, *, asked: bool = True) -> tuple[Check, ...]:
    """The checks over a deployment without any attestation; where nobody `asked` for one, none is missing."""
    line = policy.line("required")
    if not asked:
        missing = Check("attestation", "not_applicable", policy.severity("attestation"), note=NOT_ASKED)
    elif "attestation" in policy.rules.required:
        missing = Check(
            "attestation",
            "failed",
            policy.severity("attestation"),
            "NO_ATTESTATION",
            f"an attestation of {deployment.digest or deployment.sha or 'what was deployed'}",
            "none",
            line,
        )
    else:
        missing = Check("attestation", "not_applicable", policy.severity("attestation"), policy_line=line)
    return (missing, _sbom_check(deployment, policy))


def verdict_of(checks: Iterable[Check]) -> str:
    """The verdict of one attestation: the gravest of its failures, else what cryptography said."""
    checks = list(checks)
    failures = [check.verdict for check in checks if check.failed and check.verdict]
    if failures:
        return min(failures, key=_gravity)
    # Nothing is verified because nothing failed: the log must have been asked, and says which of the two it is.
    witnessed = [check.found for check in checks if check.name == "log" and check.outcome == "passed"]
    return witnessed[0] if witnessed and witnessed[0] in VERIFIED else "NO_ATTESTATION"


def choose(attestations: Sequence[Sequence[Check]]) -> Judgement:
    """The verdict of a deployment over the checks of each of its attestations (`evaluate`).

    One that passes fully decides, a witnessed one before a private one, and the failures of the others stay as
    findings. Where none passes the gravest verdict decides. Without any the verdict is NO_ATTESTATION; give
    `evaluate_absent`'s checks for the findings of that.
    """
    verdicts = tuple(verdict_of(checks) for checks in attestations)
    failures = tuple(
        dict.fromkeys(
            (None if check.name in _OF_DEPLOYMENT else index, check)
            for index, checks in enumerate(attestations)
            for check in checks
            if check.failed
        )
    )
    if not verdicts:
        return Judgement("NO_ATTESTATION", None, (), ())
    passed = [verdict for verdict in VERIFIED if verdict in verdicts]
    verdict = passed[0] if passed else min(verdicts, key=_gravity)
    return Judgement(verdict, verdicts.index(verdict), verdicts, failures)


def _gravity(verdict: str) -> int:
    """A word that is not known is taken for the worst."""
    return VERDICT_ORDER.index(verdict) if verdict in VERDICT_ORDER else -1


class _Judge:
    """The checks over one attestation, which share its facts."""

    def __init__(self, facts: AttestedFacts, deployment: DeploymentFacts, policy: Policy, kind: Kind) -> None:
        self.facts = facts
        self.deployment = deployment
        self.policy = policy
        self.rules = policy.rules
        self.kind = kind

    def checks(self) -> list[Check]:
        facts = self.facts
        found = self._cryptography()
        if facts.verdict not in _AUTHENTIC:
            return [*found, *self._skipped(_AFTER_CRYPTOGRAPHY, "what was signed is not authentic"), self._sbom()]
        found += [self._subject(), self._statement_type()]
        predicate = self._predicate_type()
        found.append(predicate)
        if predicate.failed:
            skipped = self._skipped(_OF_BUILD, "this attestation is of another kind")
            return [*found, *skipped, self._claims(), self._sbom()]
        source = self._source()
        found += [
            self._listed("issuer", facts.issuer, "UNTRUSTED_ISSUER", "issuers", self.rules.issuers),
            self._signer(own_source=source.outcome == "passed"),
            source,
            self._commit(),
            self._listed("ref", facts.ref, "UNTRUSTED_REF", "refs", self.rules.refs),
            self._trigger(),
            self._runner(),
            self._builder(),
            self._run(),
            self._attested_before_deployed(),
            self._claims(),
            self._sbom(),
        ]
        return found

    def _check(
        self,
        name: str,
        outcome: Outcome | bool,
        verdict: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        *,
        line: int | None = None,
        note: str | None = None,
    ) -> Check:
        if isinstance(outcome, bool):
            outcome = "passed" if outcome else "failed"
        failure = verdict if outcome == "failed" else None
        return Check(name, outcome, self.policy.severity(name), failure, expected, found, line, note)

    def _skipped(self, names: Iterable[str], note: str) -> list[Check]:
        return [self._check(name, "not_applicable", note=note) for name in names]

    def _listed(
        self, name: str, found: str | None, verdict: str, key: str, globs: Sequence[str], *, fold: bool = True
    ) -> Check:
        """Whether a value is one that the policy lists; a certificate that does not say it fails."""
        return self._check(
            name, _matches_one(found, globs, fold=fold), verdict, _any_of(globs), found, line=self.policy.line(key)
        )

    def _cryptography(self) -> list[Check]:
        verdict = self.facts.verdict
        names = ("signature", "log", "certificate")
        if verdict in _AUTHENTIC:
            note = "no public log witnessed it" if verdict == "VERIFIED_PRIVATE" else None
            log = "VERIFIED_PRIVATE" if verdict == "VERIFIED_PRIVATE" else "VERIFIED"
            return [
                self._check("readable", True),
                self._check("signature", True),
                self._check("log", True, found=log, note=note),
                self._check("certificate", True),
            ]
        if verdict in _FAILS:
            rest = "verification ended before this was known"
            return [
                self._check("readable", True),
                *(
                    self._check(name, False, verdict, "VERIFIED", verdict)
                    if name == _FAILS[verdict]
                    else self._check(name, "not_applicable", note=rest)
                    for name in names
                ),
            ]
        unread = self._check("readable", False, verdict, "a bundle that can be judged", verdict)
        return [unread, *self._skipped(names, "the bundle was not judged")]

    def _subject(self) -> Check:
        if self.facts.verdict == "INVALID_SUBJECT":
            found = _one_line(sorted(self.facts.subject_digests))
            return self._check("subject", False, "INVALID_SUBJECT", self.deployment.digest, found)
        if self.deployment.digest is None:
            return self._check("subject", "not_applicable", note="the deployment names no digest")
        digests = {digest.casefold() for digest in self.facts.subject_digests}
        matches = self.deployment.digest.casefold() in digests
        return self._check("subject", matches, "INVALID_SUBJECT", self.deployment.digest, _one_line(sorted(digests)))

    def _statement_type(self) -> Check:
        # Of another type of statement nobody knows what its subjects mean.
        types = self.rules.statement_types
        found = self.facts.statement_type
        return self._listed("statement_type", found, "INVALID_SUBJECT", "statement_types", types, fold=False)

    def _predicate_type(self) -> Check:
        key = "sbom_predicate_types" if self.kind == "sbom" else "predicate_types"
        types = self.rules.sbom_predicate_types if self.kind == "sbom" else self.rules.predicate_types
        found = self.facts.predicate_type
        return self._listed("predicate_type", found, "NO_ATTESTATION", key, types, fold=False)

    def _signer(self, *, own_source: bool) -> Check:
        names = {self.deployment.repository}
        if own_source and self.facts.source_repository_uri:
            # The repository may have another name now than when it was built; its id has been looked at.
            names.add(_repository_of(self.facts.source_repository_uri))
        globs = [filled for glob in self.rules.signers for filled in _filled(glob, sorted(names))]
        return self._listed("signer", self.facts.signer_uri, "UNTRUSTED_SIGNER", "signers", globs)

    def _source(self) -> Check:
        name, facts = "source_repository", self.facts
        found = facts.source_repository_uri
        shown = f"{found} (id {facts.source_repository_id})" if facts.source_repository_id else found
        rules = self.rules
        if rules.source_owner_ids and facts.source_owner_id not in {str(known) for known in rules.source_owner_ids}:
            return self._check(
                name,
                False,
                "UNTRUSTED_SOURCE",
                f"owner id {_any_of(rules.source_owner_ids)}",
                f"{shown}, owner id {facts.source_owner_id}",
                line=self.policy.line("source_owner_ids"),
            )
        if rules.source_repository_ids:
            return self._check(
                name,
                facts.source_repository_id in {str(known) for known in rules.source_repository_ids},
                "UNTRUSTED_SOURCE",
                f"repository id {_any_of(rules.source_repository_ids)}",
                shown,
                line=self.policy.line("source_repository_ids"),
            )
        deployed = self.deployment
        note, trusted = None, False
        for glob in rules.source_repositories:
            filled = _filled(glob, [deployed.repository])
            if OWN_REPOSITORY in glob and deployed.repository_id and facts.source_repository_id:
                # Ids decide: the name may be a new one, or have gone to somebody else.
                same_host = path_matches(urlsplit(found or "").netloc.casefold(), [urlsplit(glob).netloc.casefold()])
                if same_host and facts.source_repository_id == deployed.repository_id:
                    trusted = True
                    if not _matches_one(found, filled):
                        note = "the same repository by its id, under another name"
            else:
                trusted = trusted or _matches_one(found, filled)
        expected = _any_of([glob.replace(OWN_REPOSITORY, deployed.repository) for glob in rules.source_repositories])
        if deployed.repository_id:
            expected += f" (id {deployed.repository_id})"
        line = self.policy.line("source_repositories")
        return self._check(name, trusted, "UNTRUSTED_SOURCE", expected, shown, line=line, note=note)

    def _commit(self) -> Check:
        expected, found = self.deployment.sha, self.facts.commit
        if expected is None:
            return self._check("source_commit", "not_applicable", found=found, note="the deployment names no commit")
        matches = found is not None and found.casefold() == expected.casefold()
        return self._check("source_commit", matches, "COMMIT_MISMATCH", expected, found)

    def _trigger(self) -> Check:
        triggers, found = self.rules.triggers, self.facts.trigger
        key = "allow" if triggers.allow is not None and found not in triggers.deny else "deny"
        expected = _any_of(triggers.allow) if triggers.allow is not None else f"none of {', '.join(triggers.deny)}"
        allowed = found is not None and found not in triggers.deny
        allowed = allowed and (triggers.allow is None or found in triggers.allow)
        note = f"started by {found}" if allowed and found in triggers.report else None
        line = self.policy.line("triggers", key)
        return self._check("trigger", allowed, "UNTRUSTED_TRIGGER", expected, found, line=line, note=note)

    def _runner(self) -> Check:
        found, accepted = self.facts.runner_environment, self.rules.runner_environments
        line = self.policy.line("runner_environments")
        return self._check("runner", found in accepted, "UNTRUSTED_RUNNER", _any_of(accepted), found, line=line)

    def _builder(self) -> Check:
        level, least = slsa_level(self.facts, self.policy), self.rules.minimum_slsa_level
        builder = self.facts.builder_id or self.facts.signer_uri
        found = f"{builder}, " + ("unknown" if level is None else f"SLSA Build L{level}")
        trusted = level is not None and level >= least
        line = self.policy.line("builders" if level is None else "minimum_slsa_level")
        return self._check(
            "builder", trusted, "UNTRUSTED_BUILDER", f"a known builder of SLSA Build L{least}", found, line=line
        )

    def _run(self) -> Check:
        facts, deployed = self.facts, self.deployment
        uri = facts.run_invocation_uri
        if uri is None:
            return self._check("run", "not_applicable", note="the certificate names no run")
        match = _RUN_ID.search(uri)
        source = (facts.source_repository_uri or "").casefold().rstrip("/")
        if match is None or not uri.casefold().startswith(f"{source}/"):
            return self._check("run", False, "RUN_UNKNOWN", f"a run of {source}", uri)
        run_id = match[1] or match[2]
        if run_id == deployed.run_id:
            return self._check("run", True, expected="a run that was collected", found=uri)
        if deployed.knows_run is None:
            return self._check("run", "not_applicable", found=uri, note="no runs were collected")
        return self._check("run", deployed.knows_run(run_id), "RUN_UNKNOWN", "a run that was collected", uri)

    def _claims(self) -> Check:
        facts, claims = self.facts, self.facts.claims
        builders = {facts.builder_id, facts.signer_uri, facts.build_config_uri}
        builders.add(f"{_RUNNER_AS_BUILDER}{facts.runner_environment}")
        pairs: list[tuple[str, str | None, set[str | None]]] = [
            ("source repository", claims.source_repository_uri, {facts.source_repository_uri}),
            ("source repository id", claims.source_repository_id, {facts.source_repository_id}),
            ("commit", claims.commit, {facts.commit}),
            ("ref", claims.ref, {facts.ref}),
            ("workflow", claims.build_config_uri, {facts.build_config_uri}),
            ("builder", claims.builder_id, builders),
            ("trigger", claims.trigger, {facts.trigger}),
            ("runner", claims.runner_environment, {facts.runner_environment}),
            ("run", claims.run_invocation_uri, {facts.run_invocation_uri}),
        ]
        # Only what both say can disagree.
        judged = [(what, claim, {_folded(value) for value in known if value}) for what, claim, known in pairs if claim]
        false = [(what, claim, known) for what, claim, known in judged if known and _folded(claim) not in known]
        if false or facts.verdict == "FORGED_CLAIMS":
            expected = "; ".join(f"{what} {_any_of(sorted(known))}" for what, _, known in false)
            found = "; ".join(f"{what} {claim}" for what, claim, _ in false)
            return self._check(
                "claims", False, "FORGED_CLAIMS", expected or "what the certificate says", found or "FORGED_CLAIMS"
            )
        if not any(known for _, _, known in judged):
            return self._check("claims", "not_applicable", note="the predicate claims nothing the certificate says")
        return self._check("claims", True)

    def _attested_before_deployed(self) -> Check:
        attested, deployed = self.facts.verified_at, self.deployment.finished_at
        name = "attested_before_deployed"
        if attested is None or deployed is None:
            missing = "attestation" if attested is None else "deployment"
            return self._check(name, "not_applicable", note=f"the {missing} has no known time")
        attested, deployed = _utc(attested), _utc(deployed)
        expected, found = f"at or before {deployed.isoformat()}", attested.isoformat()
        return self._check(name, attested <= deployed, "ATTESTED_AFTER_DEPLOY", expected, found)

    def _sbom(self) -> Check:
        return _sbom_check(self.deployment, self.policy)


_OF_BUILD = (
    "issuer",
    "signer",
    "source_repository",
    "source_commit",
    "ref",
    "trigger",
    "runner",
    "builder",
    "run",
    "attested_before_deployed",
)
_AFTER_CRYPTOGRAPHY = ("subject", "statement_type", "predicate_type", *_OF_BUILD, "claims")


def _sbom_check(deployment: DeploymentFacts, policy: Policy) -> Check:
    """A missing SBOM is a finding, and says nothing about the attestation: it has no verdict."""
    severity, line = policy.severity("sbom"), policy.line("required")
    if deployment.has_sbom:
        return Check("sbom", "passed", severity, policy_line=line)
    if deployment.has_sbom is None or "sbom" not in policy.rules.required:
        return Check("sbom", "not_applicable", severity, policy_line=line)
    valid = "an SBOM" if deployment.unfit_sbom is None else "a valid SBOM"
    expected = f"{valid} of {deployment.digest or 'what was deployed'}"
    return Check("sbom", "failed", severity, None, expected, deployment.unfit_sbom or "none", line)


def _folded(uri: str) -> str:
    """A URI with host, owner and repository in small letters; paths and refs mind the case of their letters."""
    if "://" not in uri:
        return uri
    parts = uri.removesuffix("/").split("/", 5)
    return "/".join([part.casefold() for part in parts[:5]] + parts[5:])


def _matches_one(value: str | None, globs: Sequence[str], *, fold: bool = True) -> bool:
    if value is None:
        return False
    return path_matches(_folded(value), map(_folded, globs)) if fold else path_matches(value, globs)


def _filled(glob: str, names: Iterable[str]) -> list[str]:
    """A glob with the repository's name in it; a name with a wildcard of its own is taken for none."""
    if OWN_REPOSITORY not in glob:
        return [glob]
    return [glob.replace(OWN_REPOSITORY, name) for name in names if not set(name) & set("*?")]


def _repository_of(uri: str) -> str:
    return urlsplit(uri).path.strip("/")


def _any_of(values: Iterable[object]) -> str:
    return " or ".join(map(str, values))


def _one_line(values: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(values[:most])
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown or "none"


def _utc(at: datetime) -> datetime:
    """The lake's times are naive and UTC; an attestation's are aware."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
