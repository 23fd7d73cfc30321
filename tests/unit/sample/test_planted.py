"""Everything that the summary claims was planted is there, judged by the feeds alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta

import pytest

from analytics.sample.timeline import NOW
from tests.unit.sample.sample_world import World

EVERYTHING = (
    "attested_after_deployed", "authored_after_deploy", "bad_records", "cancelled", "carried_over_jobs",
    "cherry_picks", "config_drift", "denied_licences", "downgrades", "expired_waivers", "failed_deployments",
    "finish_unknown", "flaky_runs", "forged_claims", "got_worse", "hotfixes", "in_progress", "incident_fixes",
    "linked_by_time", "linked_explicitly", "linked_to_nothing", "never_succeeded", "noops", "not_approved",
    "open_incidents", "overlapping_incidents", "private_attestations", "pull_request_target", "red_runs_that_deployed",
    "redeploys", "retried", "reverted_before_release", "reverts", "rollbacks", "sbom_invalid", "sbom_missing",
    "sbom_older", "seeds", "self_approved", "self_hosted_runner", "several_regions", "skipped_deploy_jobs",
    "tags_that_are_no_release", "told_twice", "unattested", "undeclared_repository", "unknown_run",
    "unlinked_incidents", "unmapped_environments", "unresolved", "unsupported_log_entry", "vulnerable_components",
    "waived_findings", "went_live", "without_deployments", "without_ticket", "written_twice", "wrong_commit",
)  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_something_of_each_kind_is_planted(world: World, name: str) -> None:
    assert world.planted[name]


def test_nothing_is_planted_that_this_list_does_not_know(world: World) -> None:
    assert set(world.planted) == set(EVERYTHING)


def fed(world: World, name: str) -> list[str]:
    """The planted deployments that are rows of the deployments feed (others are runs, tags and releases)."""
    keys = [key for key in world.planted[name] if key in world.attempts]
    assert keys
    return keys


def test_a_rollback_returns_to_an_ancestor_of_what_is_live_that_was_live_before(world: World) -> None:
    for key in fed(world, "rollbacks"):
        before = [world.deployed_sha(other) for other in world.before(key)]
        sha, live = world.deployed_sha(key), before[-1]
        assert sha is not None
        assert live is not None
        assert sha != live
        assert sha in before
        assert sha in world.ancestors(live)


def test_a_redeploy_brings_back_what_had_been_rolled_back(world: World) -> None:
    for key in fed(world, "redeploys"):
        before = [world.deployed_sha(other) for other in world.before(key)]
        assert world.deployed_sha(key) in before[:-1]
        assert before[-1] in world.ancestors(str(world.deployed_sha(key)))


def test_a_noop_is_what_is_live(world: World) -> None:
    for key in fed(world, "noops"):
        assert world.deployed_sha(key) == world.deployed_sha(world.before(key)[-1])


def test_a_downgrade_finishes_after_a_newer_commit_and_was_never_live(world: World) -> None:
    for key in fed(world, "downgrades"):
        before = [world.deployed_sha(other) for other in world.before(key)]
        assert world.deployed_sha(key) not in before
        assert world.deployed_sha(key) in world.ancestors(str(before[-1]))


def test_an_unresolved_deployment_leads_to_no_known_commit(world: World) -> None:
    kinds = set()
    for key in fed(world, "unresolved"):
        assert key in world.finishes
        assert world.deployed_sha(key) not in world.commits
        kinds.add(world.attempts[key][0].repository.endswith("-gitops"))
    # One without a trace of its image, and one of a commit that was forced away.
    assert kinds == {True, False}


def test_other_deployments_are_of_known_commits(world: World) -> None:
    strange = {key for key in world.attempts if world.deployed_sha(key) not in world.commits}
    assert strange == {*world.planted["unresolved"], *world.planted["undeclared_repository"]}


def test_a_seed_is_the_first_success_of_its_service(world: World) -> None:
    assert len(world.planted["seeds"]) == len(world.summary.services)
    assert all(world.before(key) == [] for key in fed(world, "seeds"))


def test_a_retried_deployment_failed_before_it_succeeded(world: World) -> None:
    for key in fed(world, "retried"):
        rows = world.attempts[key]
        states = {row.status or (row.statuses or [])[2].state for row in rows}
        assert states == {"failure", "success"}
    shared = [key for key in fed(world, "retried") if {row.run_id for row in world.attempts[key]} == {None}]
    assert all({row.attempt for row in world.attempts[key]} >= {1, 2} for key in shared)


def test_what_never_succeeded_did_not(world: World) -> None:
    assert not set(fed(world, "never_succeeded")) & set(world.finishes)


def test_a_deployment_to_several_regions_is_one_run(world: World) -> None:
    for key in fed(world, "several_regions"):
        assert {row.region for row in world.attempts[key]} == {"eu-central", "us-east"}


def test_a_finish_is_unknown_where_a_success_has_no_time(world: World) -> None:
    for key in world.planted["finish_unknown"]:
        (row,) = world.attempts[key]
        assert (row.status, row.finished_at, row.statuses) == ("success", None, None)


def test_a_commit_is_authored_after_the_first_deployment_that_has_it(world: World) -> None:
    (sha,) = world.planted["authored_after_deploy"]
    commit = world.commits[sha]
    chain = world.chains[commit.repository.split("/")[1]]
    known = [key for key in chain if world.deployed_sha(key) in world.commits]
    first = next(key for key in known if sha in world.ancestors(str(world.deployed_sha(key))))
    assert commit.authored_at > world.finishes[first]


def test_other_commits_are_authored_before_they_are_committed(world: World) -> None:
    wrong = {sha for sha, commit in world.commits.items() if commit.authored_at > commit.committed_at}
    assert wrong == set(world.planted["authored_after_deploy"])


def test_a_cherry_pick_is_deployed_and_its_original_is_merged(world: World) -> None:
    deployed = {row.sha for row in world.records("deployments")}
    for sha in world.planted["cherry_picks"]:
        pick = world.commits[sha]
        twins = [other for other in world.commits.values() if other.patch_id == pick.patch_id and other.sha != sha]
        assert sha in deployed
        assert [twin.authored_at for twin in twins] == [pick.authored_at]


def test_a_revert_ships_after_the_change_it_takes_back(world: World) -> None:
    for key in fed(world, "reverts"):
        before = {world.deployed_sha(other) for other in world.before(key)}
        known = set().union(*(world.ancestors(sha) for sha in before if sha in world.commits))
        new = world.ancestors(str(world.deployed_sha(key))) - known
        messages = " ".join(world.commits[sha].message or "" for sha in new)
        assert set(re.findall(r"This reverts commit (\w{40})", messages)) & known


def test_a_change_reverted_before_its_release_was_never_deployed_alone(world: World) -> None:
    reverting = {}
    for commit in world.commits.values():
        for sha in re.findall(r"This reverts commit (\w{40})", commit.message or ""):
            reverting[sha] = commit
    for sha in world.planted["reverted_before_release"]:
        name = world.commits[sha].repository.split("/")[1]
        shas = {world.deployed_sha(key) for key in world.chains.get(name, [])} & set(world.commits)
        shas |= {one.sha for entity in ("tags", "releases") for one in world.records(entity) if not _candidate(one)}
        having = [deployed for deployed in shas if sha in world.ancestors(str(deployed))]
        assert having
        # A revert of the same repository's trunk is in every deployed commit that has the change.
        again = [c.sha for c in world.commits.values() if f"This reverts commit {sha}" in (c.message or "")]
        assert all(set(again) & world.ancestors(str(deployed)) for deployed in having)


def _candidate(record: object) -> bool:
    return str(getattr(record, "name", "")).startswith("rc-")


def test_a_hotfix_says_so_by_label_branch_or_title(world: World) -> None:
    requests = {sha: request for request in world.records("pull_requests") for sha in request.commits or ()}
    requests |= {one.merge_commit_sha: one for one in world.records("pull_requests") if one.merge_commit_sha}
    marks = set()
    for key in fed(world, "hotfixes"):
        row = world.attempts[key][-1]
        before = [world.deployed_sha(other) for other in world.before(key)]
        known = set().union(*(world.ancestors(sha) for sha in before if sha in world.commits))
        new = world.ancestors(str(world.deployed_sha(key))) - known
        shipped = [requests[sha] for sha in new if sha in requests]
        found = {
            *(["deployment"] if "hotfix" in (row.labels or ()) else []),
            *("label" for one in shipped if "hotfix" in (one.labels or ())),
            *("branch" for one in shipped if (one.head_ref or "").startswith("hotfix/")),
            *("title" for one in shipped if (one.title or "").startswith("Hotfix:")),
        }
        assert found, key
        marks |= found
    assert marks == {"deployment", "label", "branch", "title"}


def test_an_incident_linked_by_time_follows_the_latest_deployment_within_a_day(world: World) -> None:
    failed = set(world.planted["failed_deployments"])
    checked = 0
    for incident in world.incidents_of("linked_by_time"):
        assert incident.deployment_id is None
        chain = world.chains.get(str(incident.service), [])
        impact = incident.impact_started_at
        assert impact is not None
        begun = [key for key in chain if _started(world, key) <= impact]
        if begun:
            checked += 1
            assert impact - world.finishes[begun[-1]] <= timedelta(hours=24)
            assert begun[-1] in failed
    assert checked > 20


def _started(world: World, key: str) -> datetime:
    rows = world.attempts[key]
    return min(row.started_at or row.created_at for row in rows)


def test_an_explicit_link_names_a_deployment_a_sha_or_a_pull_request(world: World) -> None:
    kinds: Counter[str] = Counter()
    for incident in world.incidents_of("linked_explicitly"):
        named = [name for name in ("deployment_id", "sha", "pull_request") if getattr(incident, name) is not None]
        assert len(named) == 1
        kinds[named[0]] += 1
    assert set(kinds) == {"deployment_id", "sha", "pull_request"}
    assert any(incident.service is None for incident in world.incidents_of("linked_explicitly"))


def test_an_unlinked_incident_is_far_from_every_deployment(world: World) -> None:
    windows = {"pricing": 48}
    checked = 0
    for incident in world.incidents_of("unlinked_incidents"):
        name, impact = str(incident.service), incident.impact_started_at
        assert impact is not None
        begun = [key for key in world.chains.get(name, []) if _started(world, key) <= impact]
        for key in begun[-1:]:
            checked += 1
            assert impact - world.finishes[key] > timedelta(hours=windows.get(name, 24))
    assert checked


def test_open_incidents_have_not_ended_and_all_others_have(world: World) -> None:
    parts = defaultdict(list)
    for incident in world.records("incidents"):
        parts[incident.dedupe_key or incident.incident_id].append(incident)
    still_open = {
        part.incident_id
        for group in parts.values()
        if not any(one.mitigated_at or one.resolved_at for one in group)
        for part in group
    }
    assert set(world.planted["open_incidents"]) == still_open
    assert all(NOW - one.opened_at < timedelta(days=20) for one in world.incidents_of("open_incidents"))


def test_what_is_told_twice_is_mitigated_for_the_pager_and_resolved_in_the_ticket(world: World) -> None:
    told = defaultdict(list)
    for incident in world.records("incidents"):
        if incident.dedupe_key:
            told[incident.dedupe_key].append(incident)
    assert sorted(told) == sorted(world.planted["told_twice"])
    for pair in told.values():
        # Tickets are numbered like CART-12, pages like PCART00012.
        page, ticket = sorted(pair, key=lambda one: "-" in one.incident_id)
        assert (page.mitigated_at is not None, page.resolved_at is not None) == (True, False)
        assert (ticket.mitigated_at is not None, ticket.resolved_at is not None) == (False, True)
        assert page.opened_at < ticket.opened_at


def test_an_overlapping_incident_begins_before_the_other_one_ends(world: World) -> None:
    by_service = defaultdict(list)
    for incident in world.records("incidents"):
        by_service[incident.service].append(incident)
    for incident in world.incidents_of("overlapping_incidents"):
        others = [one for one in by_service[incident.service] if one.incident_id != incident.incident_id]
        began = incident.impact_started_at or incident.opened_at
        assert any(
            (one.impact_started_at or one.opened_at) <= began <= (one.mitigated_at or one.resolved_at or NOW)
            or (one.impact_started_at or one.opened_at) <= (incident.mitigated_at or NOW) <= (one.resolved_at or NOW)
            for one in others
        )


def test_a_green_run_with_a_skipped_deploy_job_and_a_red_one_that_deployed(world: World) -> None:
    jobs = {
        (str(job.run_id), job.attempt): job.conclusion
        for job in world.records("pipeline_jobs")
        if job.name == "deploy-prod"
    }
    runs = {(str(run.run_id), run.attempt): run.conclusion for run in world.records("pipeline_runs")}
    for name in world.planted["skipped_deploy_jobs"]:
        assert (runs[name, 1], jobs[name, 1]) == ("success", "skipped")
    for name in world.planted["red_runs_that_deployed"]:
        red = [attempt for (run, attempt), conclusion in runs.items() if run == name and conclusion == "failure"]
        assert any(jobs[name, attempt] == "success" for attempt in red)


def test_a_flaky_run_failed_and_then_passed_on_the_same_commit(world: World) -> None:
    attempts = defaultdict(list)
    for run in world.records("pipeline_runs"):
        attempts[str(run.run_id)].append(run)
    for name in world.planted["flaky_runs"]:
        runs = sorted(attempts[name], key=lambda run: run.attempt)
        assert len({run.head_sha for run in runs}) == 1
        assert runs[0].conclusion == "failure"
        assert runs[-1].conclusion == "success"


def test_some_runs_end_without_success_or_failure(world: World) -> None:
    conclusions = {run.conclusion for run in world.records("pipeline_runs")}
    assert {"cancelled", "timed_out", "startup_failure", "action_required"} <= conclusions


def test_a_deployment_is_in_progress(world: World) -> None:
    (key,) = world.planted["in_progress"]
    (row,) = world.attempts[key]
    assert [status.state for status in row.statuses or ()] == ["pending", "in_progress"]


def test_a_service_that_went_live_midway_was_not_deployed_before(world: World) -> None:
    (entry,) = world.planted["went_live"]
    name, since = entry.split()
    first = world.finishes[world.chains[name][0]]
    assert first.date().isoformat() == since


def test_a_quiet_quarter_has_no_deployments_though_there_are_others_around(world: World) -> None:
    (entry,) = world.planted["without_deployments"]
    name, quiet = entry.split()
    quarters = [f"{at.year}-Q{(at.month + 2) // 3}" for at in (world.finishes[key] for key in world.chains[name])]
    assert quiet not in quarters
    assert min(quarters) < quiet < max(quarters)


def test_a_carried_over_job_started_before_its_attempt(world: World) -> None:
    starts = {(run.run_id, run.attempt): run.started_at for run in world.records("pipeline_runs")}
    wanted = set(world.planted["carried_over_jobs"])
    carried = [job for job in world.records("pipeline_jobs") if str(job.job_id) in wanted]
    assert len(carried) == len(wanted)
    assert all(job.attempt > 1 and job.started_at < starts[job.run_id, job.attempt] for job in carried)
