"""From a judgement to what policies read: the certificate's facts, and the claims in the words that they are held in.

Source: supply-chain.md section 1 (source, commit, ref, runner, trigger and builder come from the certificate).
"""

from __future__ import annotations

from collections.abc import Sequence

from analytics.supply_chain.claims import CheckedClaim
from analytics.supply_chain.facts import AttestedFacts, Claims
from analytics.supply_chain.statements import (
    BUILDER,
    COMMIT,
    REF,
    REPOSITORY,
    REPOSITORY_ID,
    RUN,
    RUNNER,
    TRIGGER,
)
from analytics.supply_chain.verification import Judgement

# By these subjects are matched (supply-chain.md section 1).
_MATCHED = ("sha256", "sha512")


def attested_facts(judgement: Judgement) -> AttestedFacts:
    """The facts that policies judge; of a bundle that was not proven there is the verdict alone.

    A claim that agrees stands in the certificate's own words, since both may write the same thing differently (another
    letter case, a clone address, the workflow's ref); one that contradicts stands as it was claimed; one for which
    the certificate has no counterpart is left out.
    """
    facts = judgement.certificate
    if not judgement.proven or facts is None:
        return AttestedFacts(judgement.verdict.value)
    claims = judgement.claims
    return AttestedFacts(
        verdict=judgement.verdict.value,
        issuer=facts.issuer,
        signer_uri=facts.build_signer,
        build_config_uri=facts.build_config,
        source_repository_uri=facts.source_repository,
        source_repository_id=facts.source_repository_id,
        source_owner_id=facts.source_owner_id,
        commit=facts.source_commit,
        ref=facts.source_ref,
        trigger=facts.build_trigger,
        runner_environment=facts.runner_environment,
        run_invocation_uri=facts.run_invocation,
        statement_type=judgement.statement_type,
        predicate_type=judgement.predicate_type,
        verified_at=judgement.verified_at,
        subject_digests=frozenset(
            f"{algorithm}:{value.lower()}"
            for subject in judgement.subjects
            for algorithm, value in subject.digests.items()
            if algorithm in _MATCHED
        ),
        claims=Claims(
            source_repository_uri=_claimed(claims, REPOSITORY, facts.source_repository),
            source_repository_id=_claimed(claims, REPOSITORY_ID, facts.source_repository_id),
            commit=_claimed(claims, COMMIT, facts.source_commit),
            ref=_claimed(claims, REF, facts.source_ref),
            builder_id=_claimed(claims, BUILDER, facts.build_signer),
            trigger=_claimed(claims, TRIGGER, facts.build_trigger),
            runner_environment=_claimed(claims, RUNNER, facts.runner_environment),
            run_invocation_uri=_claimed(claims, RUN, facts.run_invocation),
        ),
    )


def _claimed(claims: Sequence[CheckedClaim], name: str, certified: str | None) -> str | None:
    """The predicate's claim of this name: the first that contradicts, else what it agrees with."""
    judged = [claim for claim in claims if claim.name == name and claim.agrees is not None]
    contradicting = next((claim.claimed for claim in judged if claim.agrees is False), None)
    return contradicting or (certified if judged else None)
