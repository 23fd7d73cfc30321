"""Kinds and ownership, on histories small enough to draw."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from analytics.catalog import Service
from analytics.delivery.deployments import ServiceChain, group_attempts
from analytics.delivery.history import CommitFacts, History
from analytics.delivery.records import Attempt, Deployment, PullRequestFacts

BASE = datetime(2026, 1, 10)
REPOSITORY = "acme/shop"


def at(hours: float) -> datetime:
    return BASE + timedelta(hours=hours)


def commit(sha: str, *parents: str, authored: float = 0, **fields: Any) -> CommitFacts:
    return CommitFacts(sha, parents, fields.pop("author", "ann"), False, at(authored), **fields)


def attempt(sha: str, finished: float, key: str | None = None, **fields: Any) -> Attempt:
    values: dict[str, Any] = {
        "service": "checkout",
        "deployment_key": key or f"deployment:{sha}@{finished}",
        "source_deployment_id": key or f"{sha}@{finished}",
        "run_id": None,
        "attempt": 1,
        "region": None,
        "repository": REPOSITORY,
        "environment": "production",
        "sha": sha,
        "digest": None,
        "ref": None,
        "outcome": "success",
        "created_at": at(finished - 0.2),
        "started_at": at(finished - 0.1),
        "finished_at": at(finished),
    }
    return Attempt(**{**values, **fields})


def chain(
    commits: list[CommitFacts],
    attempts: list[Attempt],
    requests: list[PullRequestFacts] | None = None,
    **service: Any,
) -> tuple[list[Deployment], ServiceChain]:
    entry = Service(name="checkout", repository=REPOSITORY, **service)
    walked = ServiceChain(entry, {REPOSITORY: History(commits)}, {REPOSITORY: requests or []})
    deployments = [d for d in group_attempts(entry, attempts) if d.outcome == "success"]
    walked.extend(deployments)
    return sorted(deployments, key=lambda d: d.order), walked


def counted(walked: ServiceChain) -> dict[str, str]:
    return {c.sha: c.deployment.sha for c in walked.owned if c.excluded is None}


LINE = [commit("v1"), commit("v2", "v1", authored=1), commit("v3", "v2", authored=2)]


def kinds(attempts: list[Attempt], commits: list[CommitFacts] = LINE, **service: Any) -> list[str | None]:
    return [d.kind for d in chain(commits, attempts, **service)[0]]


def test_going_back_to_what_was_live_is_a_rollback() -> None:
    assert kinds([attempt("v1", 3), attempt("v2", 4), attempt("v1", 5)]) == ["seed", "change", "rollback"]


def test_an_older_sha_that_was_never_live_is_a_downgrade_with_a_warning() -> None:
    deployments, _ = chain(LINE, [attempt("v1", 3), attempt("v3", 4), attempt("v2", 5)])
    assert [d.kind for d in deployments] == ["seed", "change", "downgrade"]
    assert deployments[2].warning is not None


def test_coming_back_after_a_rollback_is_a_redeploy() -> None:
    attempts = [attempt("v1", 3), attempt("v2", 4), attempt("v1", 5), attempt("v2", 6)]
    assert kinds(attempts)[-1] == "redeploy"


def test_the_live_sha_again_is_a_noop() -> None:
    assert kinds([attempt("v1", 3), attempt("v1", 4)]) == ["seed", "noop"]


def test_a_sha_outside_the_known_history_is_unresolved_and_no_seed() -> None:
    assert kinds([attempt("zz", 3), attempt("v1", 4), attempt("v2", 5)]) == ["unresolved", "seed", "change"]


def test_a_rollback_past_an_unresolved_deployment_is_seen_against_the_last_known_one() -> None:
    attempts = [attempt("v1", 3), attempt("v2", 4), attempt("zz", 5), attempt("v1", 6)]
    assert kinds(attempts) == ["seed", "change", "unresolved", "rollback"]


def test_the_same_digest_with_another_sha_is_a_noop_that_owns_nothing() -> None:
    deployments, walked = chain(
        LINE, [attempt("v1", 3, digest="sha256:a"), attempt("v2", 4, digest="sha256:a"), attempt("v3", 5)]
    )
    assert [d.kind for d in deployments] == ["seed", "noop", "change"]
    assert counted(walked) == {"v2": "v3", "v3": "v3"}


def test_an_artifact_decides_which_commit_a_config_repositorys_deployment_shipped() -> None:
    attempts = [
        attempt("c1", 3, repository="acme/gitops", artifact=(REPOSITORY, "v1")),
        attempt("c2", 4, repository="acme/gitops", artifact=(REPOSITORY, "v2")),
    ]
    deployments, walked = chain(LINE, attempts)
    assert [d.kind for d in deployments] == ["seed", "change"]
    assert deployments[1].identity == "artifact_unverified"
    assert counted(walked) == {"v2": "c2"}


def test_provenance_decides_before_an_artifacts_record() -> None:
    attempts = [
        attempt("v1", 3),
        attempt("c1", 4, repository="acme/gitops", artifact=(REPOSITORY, "v3"), provenance=((REPOSITORY, "v2"),)),
    ]
    deployments, walked = chain(LINE, attempts)
    assert deployments[1].identity == "provenance"
    assert counted(walked) == {"v2": "c1"}


def test_of_several_commits_the_one_that_the_deployment_names_was_deployed() -> None:
    both = ((REPOSITORY, "v3"), (REPOSITORY, "v2"))
    deployments, walked = chain(LINE, [attempt("v1", 3), attempt("v2", 4, provenance=both)])
    assert (deployments[1].identity, counted(walked)) == ("provenance", {"v2": "v2"})
    _, walked = chain(LINE, [attempt("v1", 3), attempt("c1", 4, repository="acme/gitops", provenance=both)])
    assert counted(walked) == {"v2": "c1", "v3": "c1"}


def test_provenance_of_an_unknown_commit_outweighs_a_record_but_not_the_own_repositorys_sha() -> None:
    proven = {"provenance": ((REPOSITORY, "zz"),), "artifact": (REPOSITORY, "v2"), "digest": "sha256:a"}
    deployments, _ = chain(LINE, [attempt("v1", 3), attempt("c1", 4, repository="acme/gitops", **proven)])
    assert (deployments[1].kind, deployments[1].identity) == ("unresolved", "sha")
    proven.pop("artifact")
    deployments, walked = chain(LINE, [attempt("v1", 3), attempt("v2", 4, **proven)])
    assert (deployments[1].kind, deployments[1].identity, counted(walked)) == ("change", "sha", {"v2": "v2"})
    assert deployments[1].warning == "its provenance names a commit that is not in the known history"


def test_a_deployment_of_only_other_services_paths_is_a_redeploy() -> None:
    commits = [
        commit("v1", files=("a/x",)),
        commit("v2", "v1", files=("b/y",)),
        commit("v3", "v2", files=("a/z", "b/q")),
    ]
    attempts = [attempt("v1", 3), attempt("v2", 4), attempt("v3", 5)]
    assert kinds(attempts, commits, paths=["a/**"]) == ["seed", "redeploy", "change"]


def test_a_commit_without_files_is_owned_under_a_path_filter_and_flagged() -> None:
    _, walked = chain(LINE, [attempt("v1", 3), attempt("v2", 4)], paths=["a/**"])
    assert [(c.sha, c.path_unknown) for c in walked.owned] == [("v2", True)]


def squash(merged: float, *originals: str, sha: str = "s") -> PullRequestFacts:
    return PullRequestFacts(REPOSITORY, 7, None, (), None, at(merged), None, None, at(merged), sha, originals)


def test_a_squash_counts_the_pull_requests_own_commits() -> None:
    commits = [commit("v1"), commit("o1", "v1", authored=1), commit("o2", "o1", authored=2), commit("s", "v1")]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("s", 8)], [squash(5, "o1", "o2")])
    assert counted(walked) == {"o1": "s", "o2": "s"}
    assert {c.sha: c.excluded for c in walked.owned}["s"] == "squashed"


def test_a_rebase_whose_commits_carry_the_same_patches_is_no_squash() -> None:
    commits = [
        commit("v1"),
        commit("o1", "v1", authored=1, patch_id="p1"),
        commit("o2", "o1", authored=2, patch_id="p2"),
        commit("r1", "v1", authored=1, patch_id="p1"),
        commit("r2", "r1", authored=2, patch_id="p2"),
    ]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("r2", 8)], [squash(5, "o1", "o2", sha="r2")])
    assert set(counted(walked)) == {"r1", "r2"}


def test_originals_nobody_has_landed_fall_back_to_the_squash() -> None:
    commits = [commit("v1"), commit("o1", "v1", authored=1), commit("s", "v1", authored=5)]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("s", 8)], [squash(5, "o1", "lost")])
    assert set(counted(walked)) == {"o1", "s"}


def test_a_squashed_change_that_was_picked_to_a_release_branch_first_counts_once() -> None:
    commits = [
        commit("v1"),
        commit("o1", "v1", authored=1),
        commit("s", "v1", authored=5, patch_id="p"),
        commit("h", "v1", authored=5, patch_id="p"),
    ]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("h", 6), attempt("s", 8)], [squash(5, "o1")])
    assert counted(walked) == {"h": "h"}


def test_a_picked_commit_counts_at_its_first_deployment_with_the_originals_date() -> None:
    commits = [
        commit("v1"),
        commit("m", "v1", authored=1),
        commit("h", "v1", authored=3, picked_from=("m",)),
    ]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("h", 4), attempt("m", 9)])
    assert counted(walked) == {"h": "h"}
    assert next(c for c in walked.owned if c.sha == "h").authored_at == at(1)


def test_the_last_region_can_be_the_finish() -> None:
    attempts = [
        attempt("v1", 3, "run:1", region="eu"),
        attempt("v1", 5, "run:1", region="us"),
        attempt("v1", 6, "run:1", region="eu", attempt=2),
    ]
    deploys = {"environments": ["production"], "lead_to": "last_region"}
    assert chain(LINE, attempts)[0][0].finished_at == at(3)
    assert chain(LINE, attempts, deploys=deploys)[0][0].finished_at == at(5)


def test_a_second_repository_starts_its_own_history_and_owns_nothing_on_its_first_day() -> None:
    entry = Service(name="checkout", repository=REPOSITORY)
    other = History([commit("w1"), commit("w2", "w1", authored=4)])
    walked = ServiceChain(entry, {REPOSITORY: History(LINE), "acme/web": other}, {})
    both = {"revisions": ((REPOSITORY, "v2"), ("acme/web", "w1"))}
    later = {"revisions": ((REPOSITORY, "v2"), ("acme/web", "w2"))}
    deployments = group_attempts(entry, [attempt("v1", 3), attempt("v2", 4, **both), attempt("v2", 5, **later)])
    walked.extend(deployments)
    assert counted(walked) == {"v2": "v2", "w2": "v2"}


def test_a_config_repositorys_own_history_resolves_no_digest() -> None:
    entry = Service(name="checkout", repository=REPOSITORY)
    config = History([commit("g1"), commit("g2", "g1")])
    walked = ServiceChain(entry, {REPOSITORY: History(LINE), "acme/gitops": config}, {})
    attempts = [attempt(f"g{n}", n, repository="acme/gitops", digest=f"sha256:{n}") for n in (1, 2)]
    deployments = group_attempts(entry, attempts)
    walked.extend(deployments)
    assert [d.kind for d in deployments] == ["unresolved", "unresolved"]


def test_a_picked_hotfix_marks_the_deployment_that_shipped_it_and_not_the_next() -> None:
    commits = [
        commit("v1"),
        commit("m", "v1", authored=1, patch_id="p"),
        commit("n", "m", authored=2),
        commit("h", "v1", authored=1, patch_id="p"),
    ]
    request = PullRequestFacts(REPOSITORY, 7, "hotfix: pay", (), None, at(1), None, None, at(1.5), None, ("m",))
    deployments, _ = chain(commits, [attempt("v1", 0.5), attempt("h", 3), attempt("n", 8)], [request])
    assert [list(d.pull_requests) for d in deployments] == [[], [(REPOSITORY, 7)], []]


def test_a_deployment_prints_without_walking_the_whole_chain() -> None:
    deployments, _ = chain(LINE, [attempt("v1", float(n)) for n in range(1, 2000)])
    assert len(repr(deployments[-1])) < 10_000


def test_a_squash_after_its_own_branch_was_deployed_adds_nothing() -> None:
    commits = [commit("v1"), commit("a", "v1", authored=1), commit("b", "a", authored=2), commit("s", "v1", authored=9)]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("b", 8), attempt("s", 20)], [squash(9, "a", "b")])
    assert counted(walked) == {"a": "b", "b": "b"}


def test_a_squash_picked_by_its_message_alone_counts_once() -> None:
    commits = [
        commit("v1"),
        commit("a", "v1", authored=1),
        commit("b", "a", authored=2),
        commit("s", "v1", authored=5),
        commit("h", "v1", authored=5, picked_from=("s",)),
    ]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("h", 8), attempt("s", 20)], [squash(5, "a", "b")])
    assert counted(walked) == {"h": "h"}


def test_one_record_per_repository_of_a_run_is_one_deployment_over_several() -> None:
    entry = Service(name="checkout", repository=REPOSITORY)
    other = History([commit("w1"), commit("w2", "w1", authored=2)])
    walked = ServiceChain(entry, {REPOSITORY: History(LINE), "acme/web": other}, {})
    attempts = [
        attempt(sha, finished, key, repository=repository)
        for key, finished, shop, web in (("run1", 3, "v1", "w1"), ("run2", 4, "v2", "w2"))
        for repository, sha in ((REPOSITORY, shop), ("acme/web", web))
    ]
    deployments = group_attempts(entry, attempts)
    walked.extend(deployments)
    assert [len(d.revisions) for d in deployments] == [2, 2]
    assert counted(walked) == {"v2": "v2", "w2": "v2"}


def test_a_bots_pick_stays_the_work_of_the_person_it_was_picked_from() -> None:
    bot = CommitFacts("h", ("v1",), "backport[bot]", True, at(3), picked_from=("m" * 40,))
    commits = [commit("v1"), commit("m" * 40, "v1", authored=1, author="ann"), bot]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("h", 4)])
    (row,) = [c for c in walked.owned if c.sha == "h"]
    assert (row.author, row.is_bot, row.authored_at) == ("ann", False, at(1))


def test_an_abbreviated_sha_in_a_message_names_what_was_picked() -> None:
    original = "m" * 40
    commits = [commit("v1"), commit(original, "v1", authored=1), commit("h", "v1", authored=3, picked_from=("m" * 10,))]
    _, walked = chain(commits, [attempt("v1", 0.5), attempt("h", 4), attempt(original, 9)])
    assert counted(walked) == {"h": "h"}


def test_a_commit_off_the_path_has_no_owner() -> None:
    commits = [commit("v1", files=("a/x",)), commit("v2", "v1", files=("b/y",)), commit("v3", "v2", files=("a/z",))]
    _, walked = chain(commits, [attempt("v1", 3), attempt("v3", 5)], paths=["a/**"])
    assert {sha for _, sha in walked.owner} == {"v3"}
