"""GitHub pulled from a stateful fake: what lands equals the world, and each trap of the API is stepped around."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from analytics.errors import SettingsError
from analytics.landing.coverage import completeness, windows
from analytics.landing.pull import pull
from analytics.landing.reprocess import reprocess
from analytics.secrets import Secret
from analytics.settings import GitHubSource, Settings
from analytics.sources.github import provider
from analytics.sources.github.payload_paths import parse_path
from analytics.sources.github.translate import PAYLOAD_CHARACTERS, payload_digest
from analytics.sources.limits import forget_budgets
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub, Fault
from tests.fakes.github.world import Repository, World

DAY = 86_400


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def shop(world: World, tmp_path: Path) -> Repository:
    return world.repository("shop")


@pytest.fixture
def fake(world: World, shop: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(world) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, fake: FakeGitHub) -> Settings:
    return workspace(tmp_path, fake)


def assert_equal(settings: Settings, world: World) -> None:
    assert difference(world, landed(settings)) == []


def fill(world: World, shop: Repository) -> None:
    pull = world.open_pull(shop, commits=3)
    world.advance(600)
    world.review(pull, "APPROVED", "grace")
    world.advance(600)
    world.merge(shop, pull)
    run = world.start_run(shop)
    world.advance(30)
    world.proceed(run)
    world.advance(300)
    world.proceed(run, "failure")
    deployment = world.deploy(shop)
    world.set_status(shop, deployment, "IN_PROGRESS", run)
    world.advance(60)
    world.set_status(shop, deployment, "SUCCESS", run)
    issue = world.open_issue(shop, ["incident", "sev1"])
    world.open_issue(shop, ["question"])
    world.advance(900)
    world.close_issue(issue)
    release = world.release(shop, "v1")
    world.upload(release, "shop.tar.gz")
    world.release(shop, "v2", draft=True)
    world.advance(DAY)


def test_a_first_pull_lands_the_world(world: World, shop: Repository, settings: Settings) -> None:
    fill(world, shop)
    result = pulled(settings)
    assert result.error is None
    assert_equal(settings, world)


def test_a_second_pull_asks_only_whether_anything_changed(
    world: World, shop: Repository, settings: Settings, fake: FakeGitHub
) -> None:
    fill(world, shop)
    pulled(settings)
    pulled(settings)  # the window of runs moved with the first; from here on it is the same
    fake.asked.clear()
    result = pulled(settings)
    assert (result.items, result.error) == (0, None)
    assert [(one.method, one.path, one.status) for one in fake.asked] == [
        ("POST", "/graphql", 200),
        ("GET", f"/repositories/{shop.id}/actions/runs", 304),
    ]


def test_a_run_that_was_in_progress_is_followed_to_its_end(world: World, shop: Repository, settings: Settings) -> None:
    run = world.start_run(shop)
    pulled(settings)
    world.advance(40 * DAY)
    for _ in range(120):
        world.advance(60)
        world.proceed(world.start_run(shop))
    world.proceed(run)
    world.proceed(run)
    pulled(settings)
    assert_equal(settings, world)


def test_every_attempt_of_a_run_that_was_started_again_is_landed(
    world: World, shop: Repository, settings: Settings
) -> None:
    run = world.start_run(shop)
    for _ in range(3):
        world.advance(60)
        world.proceed(run, "failure")
        world.proceed(run, "failure")
        world.advance(60)
        world.run_again(run)
    pulled(settings)
    assert_equal(settings, world)


def test_jobs_that_a_new_attempt_shows_again_keep_the_times_they_had(
    world: World, shop: Repository, settings: Settings
) -> None:
    run = world.start_run(shop)
    world.proceed(run)
    world.advance(60)
    world.proceed(run, "failure")
    world.advance(3600)
    world.run_again(run)
    world.proceed(run)
    world.advance(60)
    world.proceed(run)
    pulled(settings)
    carried = [job for job in landed(settings)["pipeline_jobs"].values() if job["started_at"] < job["created_at"]]
    assert [job["name"] for job in carried] == ["lint"]
    assert_equal(settings, world)


def test_a_superseded_deployment_keeps_its_whole_history(world: World, shop: Repository, settings: Settings) -> None:
    first = world.deploy(shop)
    world.set_status(shop, first, "SUCCESS")
    pulled(settings)
    world.advance(DAY)
    second = world.deploy(shop)
    world.set_status(shop, second, "SUCCESS")
    world.advance(DAY)
    pulled(settings)
    (states,) = [row["statuses"] for key, row in landed(settings)["deployments"].items() if key == (first.id,)]
    assert [status["state"] for status in states] == ["success", "inactive"]
    assert_equal(settings, world)


def test_the_digest_that_a_deployments_payload_names_is_its_artifact(
    world: World, shop: Repository, settings: Settings
) -> None:
    digest = "sha256:" + "5A" * 32
    made = world.deploy(shop)
    made.payload = json.dumps(json.dumps({"image": f"ghcr.io/acme/shop@{digest}", "replicas": 2}))
    pulled(settings)
    assert landed(settings)["deployments"][(made.id,)]["digest"] == digest.lower()
    assert_equal(settings, world)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        "{}",
        7,
        [],
        {"image": "ghcr.io/acme/shop:v1"},
        {"image": "sha256:" + "5a" * 31},
        {"image": "sha256:" + "5a" * 33},
        {"image": "xsha256:" + "5a" * 32},
        # Of two artifacts, which one?
        {"image": "sha256:" + "5a" * 32, "sidecar": "sha256:" + "5b" * 32},
        {"image": "sha256:" + "5a" * 32, "note": "x" * PAYLOAD_CHARACTERS},
    ],
)
def test_a_payload_that_names_no_digest_or_several_names_no_artifact(payload: Any) -> None:
    assert payload_digest(payload) is None


def test_one_digest_named_twice_is_one_wherever_it_stands() -> None:
    digest = "sha256:" + "5a" * 32
    payload = {"services": [{"image": f"a/b@{digest}"}], "digest": digest.replace("a", "A").replace("shA", "sha")}
    assert payload_digest(payload) == payload_digest(json.dumps(payload)) == digest


@pytest.mark.parametrize(
    ("path", "payload", "found"),
    [
        ("$.artifact.digest", {"artifact": {"digest": "sha256:" + "5A" * 32}, "sidecar": "sha256:" + "5b" * 32}, True),
        ("artifact.digest", {"artifact": {"digest": "5a" * 32}}, True),
        ("images[1].ref", {"images": [{}, {"ref": "ghcr.io/acme/shop@sha256:" + "5a" * 32}]}, True),
        ("$[0]", ["sha256:" + "5a" * 32], True),
        # The path alone counts, also where another place names one digest.
        ("$.artifact.digest", {"digest": "sha256:" + "5a" * 32}, False),
        ("$.artifact.digest", {"artifact": "sha256:" + "5a" * 32}, False),
        ("$.artifact.digest", {"artifact": {"digest": 7}}, False),
        ("$.artifact.digest", {"artifact": {"digest": "v1"}}, False),
        ("images[1].ref", {"images": [{"ref": "sha256:" + "5a" * 32}]}, False),
        ("$.a", "no JSON", False),
        ("$.a", None, False),
    ],
)
def test_a_configured_path_says_where_the_payload_names_its_artifact(path: str, payload: Any, *, found: bool) -> None:
    expected_digest = "sha256:" + "5a" * 32 if found else None
    # GraphQL gives an object as JSON inside text, once or twice.
    for told in (payload, json.dumps(payload), json.dumps(json.dumps(payload))):
        assert payload_digest(told, parse_path(path)) == expected_digest


def test_the_configured_path_counts_for_what_is_pulled_and_for_what_was(
    tmp_path: Path, fake: FakeGitHub, world: World, shop: Repository
) -> None:
    first, second = "sha256:" + "5a" * 32, "sha256:" + "5b" * 32
    made = world.deploy(shop)
    made.payload = json.dumps({"app": {"digest": first}, "proxy": {"digest": second}})
    pulled(workspace(tmp_path, fake))
    assert "digest" not in landed(workspace(tmp_path, fake))["deployments"][(made.id,)]
    reprocess(workspace(tmp_path, fake, deployment_digest="$.proxy.digest"))
    assert landed(workspace(tmp_path, fake))["deployments"][(made.id,)]["digest"] == second
    world.advance(DAY)
    again = world.deploy(shop)
    again.payload = made.payload
    now = workspace(tmp_path, fake, deployment_digest="app.digest")
    pulled(now)
    assert landed(now)["deployments"][(again.id,)]["digest"] == first


@pytest.mark.parametrize("path", ["", "$", "$.", "$artifact", "a..b", "a[x]", "a[0", "$.a b", "$..digest", "a.*"])
def test_what_is_no_path_into_a_payload_is_refused_with_its_line(tmp_path: Path, fake: FakeGitHub, path: str) -> None:
    with pytest.raises(SettingsError, match=r"deployment_digest.*is no path; write names with dots"):
        workspace(tmp_path, fake, deployment_digest=path)


def test_a_deployment_that_waits_for_long_is_read_again_by_its_id(
    world: World, shop: Repository, settings: Settings
) -> None:
    waiting = world.deploy(shop)
    world.set_status(shop, waiting, "WAITING")
    pulled(settings)
    world.advance(200 * DAY)
    world.set_status(shop, world.deploy(shop, "staging"), "SUCCESS")
    world.set_status(shop, waiting, "FAILURE")
    world.advance(DAY)
    pulled(settings)
    assert_equal(settings, world)


def test_a_deployment_that_was_deleted_hides_no_other(world: World, shop: Repository, settings: Settings) -> None:
    deleted, waiting = world.deploy(shop), world.deploy(shop)
    pulled(settings)
    world.advance(200 * DAY)
    shop.deployments.remove(deleted)
    world.set_status(shop, world.deploy(shop), "SUCCESS")
    world.set_status(shop, waiting, "FAILURE")
    world.advance(DAY)
    assert pulled(settings).error is None
    assert difference(world, landed(settings)) == [f"deployments ({deleted.id},) is not in the world"]


def test_a_renamed_repository_keeps_its_history_under_its_present_name(
    world: World, shop: Repository, settings: Settings
) -> None:
    fill(world, shop)
    pulled(settings)
    world.rename(shop, "store")
    world.advance(DAY)
    pulled(settings)
    assert_equal(settings, world)


def test_more_runs_than_a_list_shows_are_all_landed(
    world: World, shop: Repository, tmp_path: Path, fake: FakeGitHub
) -> None:
    settings = workspace(tmp_path, fake, jobs_per_pull=0)
    for _ in range(1250):
        world.advance(60)
        run = world.start_run(shop)
        run.attempts[0].status, run.attempts[0].conclusion = "completed", "success"
    result = pulled(settings)
    assert result.error is None
    assert len(landed(settings)["pipeline_runs"]) == 1250
    assert [row.entity for row in windows(settings) if not row.complete] == ["pipeline_jobs"]
    assert [(row.landed, row.expected) for row in completeness(settings) if row.entity == "pipeline_runs"] == [
        (1250, 1250)
    ]
    assert fake.count("/actions/runs") == 13


def test_runs_that_a_list_lost_are_said_to_be_missing(
    world: World, shop: Repository, settings: Settings, fake: FakeGitHub
) -> None:
    for _ in range(3):
        world.advance(60)
        world.start_run(shop)
    fake.faults.append(
        Fault(200, '{"total_count": 3, "workflow_runs": []}', match=lambda path: path.endswith("/actions/runs"))
    )
    pulled(settings)
    short = [row for row in completeness(settings) if row.entity == "pipeline_runs"]
    assert [(row.quarter, row.landed, row.expected) for row in short] == [("2026-Q1", 0, 3)]
    assert [row.complete for row in windows(settings) if row.entity == "pipeline_runs"] == [False]


def test_a_since_is_asked_in_utc_whatever_offset_the_time_before_it_had() -> None:
    # Formatted without being converted, it would skip two hours of changes.
    assert provider._earlier("2026-01-05T11:00:00+02:00", provider.OVERLAP) == "2026-01-05T08:50:00Z"


def test_a_list_that_shifts_while_it_is_read_loses_nothing(
    world: World, shop: Repository, settings: Settings, fake: FakeGitHub
) -> None:
    pulls, issues = [], []
    for _ in range(120):
        world.advance(60)
        pulls.append(world.open_pull(shop))
        issues.append(world.open_issue(shop, ["incident"]))
    moved = iter(zip(pulls[:20], issues[:20], strict=True))

    def shift(path: str) -> None:
        for request, issue in islice(moved, 1):
            world.advance(5)
            world.edit_pull(request, "edited while it was read")
            world.edit_pull(pulls[60], "edited again")
            # It leaves the page that was read and comes last: all others move one place to the front.
            world.label_issue(issue, ["incident", "sev1"])
            world.start_run(shop)

    fake.on_request = shift
    pulled(settings)
    fake.on_request = None
    world.advance(DAY)
    pulled(settings)
    assert_equal(settings, world)


def test_a_pull_request_of_many_commits_and_reviews_is_read_whole(
    world: World, shop: Repository, settings: Settings
) -> None:
    pull = world.open_pull(shop, commits=250)
    for number in range(60):
        world.advance(1)
        world.review(pull, "COMMENTED", f"reviewer-{number}")
    pulled(settings)
    assert_equal(settings, world)


def test_a_deleted_account_and_a_deleted_fork_take_nothing_away(
    world: World, shop: Repository, settings: Settings
) -> None:
    pull = world.open_pull(shop, author=None)
    world.review(pull, "APPROVED", None)
    world.start_run(shop, fork=True)
    pulled(settings)
    assert_equal(settings, world)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(200, "<html>maintenance</html>", content_type="text/html"), "html_body"),
        (Fault(200, '{"total_count": 3, "workflow_ru'), "json_truncated"),
        (Fault(403, '{"message": "Resource not accessible by integration"}'), "Resource not accessible"),
        (Fault(404, '{"message": "Not Found"}'), "is not there"),
    ],
)
def test_a_bad_answer_fails_its_list_alone_and_the_next_pull_heals_it(
    world: World, shop: Repository, settings: Settings, fake: FakeGitHub, fault: Fault, said: str
) -> None:
    fill(world, shop)
    fault.match = lambda path: path.endswith("/actions/runs")
    fake.faults.append(fault)
    result = pulled(settings)
    assert said in (result.error or "")
    assert len(landed(settings)["pull_requests"]) == 1
    assert pulled(settings).error is None
    assert_equal(settings, world)


def test_a_bad_gateway_is_asked_again(world: World, shop: Repository, settings: Settings, fake: FakeGitHub) -> None:
    fill(world, shop)
    fake.faults.append(Fault(502, "oops", times=2, match=lambda path: path.endswith("/actions/runs")))
    assert pulled(settings).error is None
    assert_equal(settings, world)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, '{"message": "Too many requests"}'),
        Fault(403, '{"message": "You have exceeded a secondary rate limit."}', {"Retry-After": "3600"}),
        Fault(403, '{"message": "API rate limit exceeded"}', {"X-RateLimit-Remaining": "0"}),
        Fault(200, '{"data": null, "errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}'),
    ],
)
@pytest.mark.parametrize("after", [1, 4])
def test_a_rate_limit_ends_the_pull_cleanly_and_the_next_one_goes_on(
    world: World, shop: Repository, settings: Settings, fake: FakeGitHub, fault: Fault, after: int
) -> None:
    fill(world, shop)
    is_graphql = fault.status == 200
    seen: list[str] = []

    def match(path: str) -> bool:
        seen.append(path)
        return len(seen) > after and path.endswith("/graphql") == is_graphql

    fake.faults.append(Fault(fault.status, fault.body, fault.headers, times=1000, match=match))
    result = pulled(settings)
    assert result.resume_at is not None
    assert "goes on from here" in (result.error or "")
    fake.faults.clear()
    assert pulled(settings).error is None
    assert_equal(settings, world)


def test_sources_that_ask_with_one_credential_share_its_budget(
    world: World, shop: Repository, tmp_path: Path, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QD_OTHER_TOKEN", "ghp_other")
    fake.tokens.add("ghp_other")
    settings = workspace(tmp_path, fake)
    (first,) = settings.sources
    assert isinstance(first, GitHubSource)
    same = first.model_copy(update={"name": "same"})
    other = first.model_copy(update={"name": "other", "token": Secret("${QD_OTHER_TOKEN}")})
    fake.faults.append(Fault(429, '{"message": "Too many requests"}', {"Retry-After": "3600"}))
    forget_budgets()
    results = pull(settings.model_copy(update={"sources": [first, same, other]}))
    assert [result.resume_at is not None for result in results] == [True, True, False]
    # One was refused; the second knew without asking.
    assert [one.status for one in fake.asked[:2]] == [429, 200]


def test_no_credential_and_no_signed_address_is_kept_anywhere(
    world: World, shop: Repository, settings: Settings, fake: FakeGitHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    fill(world, shop)
    signed = "https://store.test/a?sv=1&sig=canarySignature%3D&se=2"
    world.edit_pull(shop.pulls[0], f"see {signed} and {TOKEN}")
    fake.faults.append(Fault(403, f'{{"message": "bad {TOKEN}"}}', match=lambda path: path.endswith("/releases")))
    result = pulled(settings)
    kept = b"".join(path.read_bytes() for path in settings.storage.rglob("*") if path.is_file())
    with_payloads = repr(landed(settings)) + repr(result) + repr(settings) + caplog.text
    for secret in (TOKEN, "canarySignature"):
        assert secret not in with_payloads
        assert secret.encode() not in kept


def test_repositories_read_side_by_side_land_the_same(
    world: World, shop: Repository, tmp_path: Path, fake: FakeGitHub
) -> None:
    fill(world, shop)
    for number in range(7):
        fill(world, world.repository(f"service-{number}", shop.clone_url))
    settings = workspace(tmp_path, fake, workers=4)
    assert pulled(settings).error is None
    assert_equal(settings, world)


def test_a_client_and_its_credential_are_never_pickled(settings: Settings) -> None:
    from analytics.landing.pull import provider_of

    provider = provider_of(settings, settings.sources[0])
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(provider)


def test_a_host_that_does_not_answer_is_left_alone_after_a_few_tries(
    world: World, fake: FakeGitHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    for number in range(20):
        world.push(world.repository(f"further-{number}"))
    fake.answers_left = 1
    result = pulled(settings)
    assert result.error is not None
    assert result.error.count("cannot be reached") == 1
    # The sweep, and three requests with their repetitions.
    assert len(fake.asked) <= 1 + 3 * 4
    fake.answers_left = None
    assert pulled(settings).error is None
    assert_equal(settings, world)
