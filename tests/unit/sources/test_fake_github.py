"""The fake GitHub is as strict as GitHub: what it lets pass by mistake, a test of ours would let pass too."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from github import Auth, Github, GithubIntegration

from tests.fakes.github import faults, graphql
from tests.fakes.github.scenario import build_reference_world
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import RateLimit, Repository, World

GOOD = {"Authorization": f"token {TOKEN}"}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def shop(world: World) -> Repository:
    return world.repository("shop")


@pytest.fixture
def fake(world: World, shop: Repository) -> Iterator[FakeGitHub]:
    with FakeGitHub(world) as server:
        yield server


def ask(
    fake: FakeGitHub, path: str, headers: dict[str, str] | None = None, body: Any = None, **query: object
) -> tuple[int, Any, dict[str, str]]:
    door = http.client.HTTPConnection(urlsplit(fake.url).netloc, timeout=10)
    try:
        where = f"{path}?{urlencode(query)}" if query else path
        sent = None if body is None else json.dumps(body)
        door.request("GET" if body is None else "POST", where, sent, GOOD if headers is None else headers)
        answer = door.getresponse()
        said = answer.read().decode()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(said) if said.startswith(("{", "[")) else said, found
    finally:
        door.close()


def query(fake: FakeGitHub, document: str, **variables: Any) -> dict[str, Any]:
    _, found, _ = ask(fake, "/graphql", body={"query": document, "variables": variables})
    return dict(found)


def complete(world: World, shop: Repository, conclusion: str = "success") -> Any:
    run = world.start_run(shop)
    world.proceed(run)
    world.advance(60)
    world.proceed(run, conclusion)
    return run


def runs_of(shop: Repository) -> str:
    return f"/repositories/{shop.id}/actions/runs"


# --- who asks, and what for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", ["", "token wrong", f"Basic {TOKEN}", TOKEN])
def test_a_request_without_a_good_token_is_refused(fake: FakeGitHub, shop: Repository, authorization: str) -> None:
    assert ask(fake, runs_of(shop), {"Authorization": authorization})[0] == 401
    assert fake.requests == [("GET", runs_of(shop), {}, 401, False)]


def test_the_log_of_requests_holds_no_credential(fake: FakeGitHub, shop: Repository) -> None:
    ask(fake, runs_of(shop))
    query(fake, '{ organization(login: "acme") { login } }')
    assert TOKEN not in repr(fake.asked) + repr(fake.requests)


@pytest.mark.parametrize("path", ["/", "/nothing", "/repositories/1", "/repositories/{id}/pulls", "/repos/acme/none"])
def test_an_unknown_path_is_not_found(fake: FakeGitHub, shop: Repository, path: str) -> None:
    assert ask(fake, path.format(id=shop.id))[0] == 404


@pytest.mark.parametrize(
    "given",
    [{"per_page": 101}, {"per_page": 0}, {"page": "x"}, {"since": "2026-01-01"}, {"created": "yesterday"},
     {"created": ">=2026-13-01"}, {"created": "2026-01-01T00:00:00+02:00..*"}],
)  # fmt: skip
def test_a_parameter_that_github_does_not_take_is_refused(
    fake: FakeGitHub, shop: Repository, given: dict[str, object]
) -> None:
    assert ask(fake, runs_of(shop), **given)[0] == 422


def test_an_app_signs_in_and_asks_with_its_installation_token(fake: FakeGitHub, shop: Repository) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    fake.install_app(7, 70, public)
    with GithubIntegration(auth=Auth.AppAuth(7, pem), base_url=fake.url) as integration:
        token = integration.get_access_token(70).token
    assert ask(fake, f"/repositories/{shop.id}", {"Authorization": f"token {token}"})[0] == 200
    forged = jwt.encode({"iss": "7", "exp": 4_000_000_000}, rsa.generate_private_key(65537, 2048), "RS256")
    assert ask(fake, "/app/installations/70/access_tokens", {"Authorization": f"Bearer {forged}"}, {})[0] == 401


@pytest.mark.parametrize("address", ["url", "enterprise_url"])
def test_pygithub_finds_rest_and_graphql_at_both_addresses(fake: FakeGitHub, shop: Repository, address: str) -> None:
    with Github(auth=Auth.Token(TOKEN), base_url=getattr(fake, address)) as hub:
        hub.requester.requestJsonAndCheck("GET", f"/repositories/{shop.id}")
        _, found = hub.requester.graphql_query('{ organization(login: "acme") { login } }', {})
    assert found["data"] == {"organization": {"login": "acme"}}
    assert (fake.rest, fake.graphql) == (1, 1)


# --- REST ------------------------------------------------------------------------------------------------------------


def test_an_unchanged_list_is_a_304_that_costs_nothing(fake: FakeGitHub, world: World, shop: Repository) -> None:
    run = complete(world, shop)
    _, _, first = ask(fake, runs_of(shop), per_page=100)
    known = {**GOOD, "If-None-Match": first["etag"]}
    status, said, second = ask(fake, runs_of(shop), known, per_page=100)
    assert (status, said, fake.conditional) == (304, "", 1)
    assert second["x-ratelimit-remaining"] == first["x-ratelimit-remaining"]
    world.run_again(run)
    assert ask(fake, runs_of(shop), known, per_page=100)[0] == 200


def test_a_filtered_list_shows_a_thousand_runs_and_tells_how_many_there_are(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    for _ in range(1001):
        world.start_run(shop)
        world.advance(1)
    _, last, headers = ask(fake, runs_of(shop), created=">=2026-01-01", per_page=100, page=10)
    _, beyond, _ = ask(fake, runs_of(shop), created=">=2026-01-01", per_page=100, page=11)
    _, unfiltered, _ = ask(fake, runs_of(shop), per_page=100, page=11)
    assert (last["total_count"], len(last["workflow_runs"])) == (1001, 100)
    assert 'rel="next"' not in headers["link"]
    assert (beyond["total_count"], beyond["workflow_runs"]) == (1001, [])
    assert [run["id"] for run in unfiltered["workflow_runs"]] == [shop.runs[0].id]


def test_both_ends_of_a_window_are_inside(fake: FakeGitHub, world: World, shop: Repository) -> None:
    made = []
    for _ in range(4):
        made.append(world.start_run(shop).id)
        world.advance(1)
    _, found, _ = ask(fake, runs_of(shop), created="2026-03-01T12:00:01Z..2026-03-01T12:00:02Z")
    assert [run["id"] for run in found["workflow_runs"]] == [made[2], made[1]]


def test_a_renamed_repository_redirects_by_name_and_drops_the_query(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    world.rename(shop, "store")
    status, _, headers = ask(fake, "/repos/acme/shop/actions/runs", per_page=5)
    assert (status, headers["location"]) == (301, f"{fake.url}{runs_of(shop)}")
    assert ask(fake, "/repos/acme/store/actions/runs")[0] == 200
    taken = world.repository("shop")
    assert ask(fake, "/repos/acme/shop")[1]["id"] == taken.id


def test_links_are_by_repository_id_and_keep_the_query(fake: FakeGitHub, world: World, shop: Repository) -> None:
    for _ in range(3):
        world.release(shop, f"v{len(shop.releases)}")
    _, found, headers = ask(fake, "/repos/acme/shop/releases", per_page=2)
    assert [one["tag_name"] for one in found] == ["v2", "v1"]
    assert f'<{fake.url}/repositories/{shop.id}/releases?per_page=2&page=2>; rel="next"' in headers["link"]


def test_passed_jobs_are_shown_again_under_the_new_attempt(fake: FakeGitHub, world: World, shop: Repository) -> None:
    run = complete(world, shop, "failure")
    world.advance(3600)
    world.run_again(run)
    world.proceed(run)
    world.proceed(run)
    _, found, _ = ask(fake, f"{runs_of(shop)}/{run.id}/jobs", filter="all")
    lint = [job for job in found["jobs"] if job["name"] == "lint"]
    assert [job["run_attempt"] for job in lint] == [1, 2]
    assert lint[0]["id"] != lint[1]["id"]
    assert lint[0]["started_at"] == lint[1]["started_at"] < lint[1]["created_at"]
    assert len(ask(fake, f"{runs_of(shop)}/{run.id}/jobs")[1]["jobs"]) == 2


def test_pull_requests_are_among_issues_and_since_is_by_the_last_change(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    old = world.open_issue(shop, ["incident"])
    world.open_issue(shop, ["incident"])
    world.advance(600)
    world.label_pull(world.open_pull(shop), ["incident"])
    world.close_issue(old)
    _, found, _ = ask(
        fake, f"/repositories/{shop.id}/issues", labels="incident", state="all", since="2026-03-01T12:10:00Z"
    )
    assert {(one["number"], "pull_request" in one) for one in found} == {(old.number, False), (3, True)}


def test_commits_are_listed_from_a_reference_backwards(fake: FakeGitHub, world: World, shop: Repository) -> None:
    made = [commit.sha for commit in world.push(shop, 3)]
    _, found, _ = ask(fake, f"/repositories/{shop.id}/commits", sha=made[1])
    assert [one["sha"] for one in found] == [made[1], made[0]]
    assert ask(fake, f"/repositories/{shop.id}/commits", sha="gone")[0] == 404


def test_attestations_are_told_by_digest_and_at_most_1024_at_once(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    digest = world.upload(world.release(shop, "v1"), "a.tar.gz")
    world.attest(shop, digest, {"mediaType": "x"})
    path = "/orgs/acme/attestations/bulk-list"
    _, found, _ = ask(fake, path, body={"subject_digests": [digest, "sha256:none"]})
    assert [one["repository_id"] for one in found["attestations_subject_digests"][digest]] == [shop.id]
    assert ask(fake, path, body={"subject_digests": ["sha256:x"] * 1025})[0] == 422


def test_the_deployment_record_of_a_place_is_overwritten_by_the_next_one(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    first, second = (world.upload(world.release(shop, tag), "a.tar.gz") for tag in ("v1", "v2"))
    path = "/orgs/acme/artifacts/{}/metadata/deployment-records"
    world.record_deployment(first, "shop")
    world.advance(60)
    world.record_deployment(second, "shop")
    assert ask(fake, path.format(first))[1] == {"total_count": 0, "deployment_records": []}
    (told,) = ask(fake, path.format(second))[1]["deployment_records"]
    assert told["updated_at"] > told["created_at"]
    world.records_refused = True
    assert ask(fake, path.format(second))[0] == 403


# --- GraphQL ---------------------------------------------------------------------------------------------------------


def test_a_field_that_github_does_not_have_is_refused(fake: FakeGitHub) -> None:
    found = query(fake, '{ organization(login: "acme") { shoeSize } }')
    assert "data" not in found
    assert "shoeSize" in found["errors"][0]["message"]


def test_a_fixture_of_the_wrong_type_is_refused(fake: FakeGitHub, world: World, shop: Repository) -> None:
    world.set_status(shop, world.deploy(shop), "SHIPPED")
    found = query(fake, "query($id: ID!) { node(id: $id) { ... on Deployment { state } } }", id=_first(shop))
    assert "SHIPPED" in found["errors"][0]["message"]


def test_a_field_that_the_world_lacks_is_said_to_be_missing(fake: FakeGitHub) -> None:
    found = query(fake, '{ organization(login: "acme") { websiteUrl } }')
    assert "has no Organization.websiteUrl" in found["errors"][0]["message"]


@pytest.mark.parametrize(
    ("arguments", "kind"), [("(first: 101)", "EXCESSIVE_PAGINATION"), ("", "MISSING_PAGINATION_BOUNDARIES")]
)
def test_a_connection_wants_a_size_of_at_most_a_hundred(fake: FakeGitHub, arguments: str, kind: str) -> None:
    found = query(fake, f'{{ organization(login: "acme") {{ repositories{arguments} {{ totalCount }} }} }}')
    assert found["errors"][0]["type"] == kind


def test_a_cursor_holds_its_place_while_the_list_changes_in_front_of_it(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    pulls = []
    for _ in range(5):
        pulls.append(world.open_pull(shop))
        world.advance(60)
    document = """query($id: ID!, $after: String) { node(id: $id) { ... on Repository {
      pullRequests(first: 2, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) {
        totalCount pageInfo { hasNextPage endCursor } nodes { number } } } } }"""
    first = query(fake, document, id=shop.node_id)["data"]["node"]["pullRequests"]
    assert [one["number"] for one in first["nodes"]] == [5, 4]
    # The item the cursor stood on moves, another comes in front, and one behind it moves away.
    world.edit_pull(pulls[3], "edited")
    world.edit_pull(pulls[1], "edited")
    world.open_pull(shop)
    after = first["pageInfo"]["endCursor"]
    second = query(fake, document, id=shop.node_id, after=after)["data"]["node"]["pullRequests"]
    assert [one["number"] for one in second["nodes"]] == [3, 1]
    assert (second["totalCount"], second["pageInfo"]["hasNextPage"]) == (6, False)
    other = document.replace("DESC", "ASC")
    assert query(fake, other, id=shop.node_id, after=after)["errors"][0]["type"] == "INVALID_CURSOR_ARGUMENTS"


def test_a_node_that_is_gone_is_null_with_an_error_beside_the_others(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    world.deploy(shop)
    found = query(fake, "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[_first(shop), "DE_1"])
    assert found["data"]["nodes"] == [{"id": _first(shop)}, None]
    assert (found["errors"][0]["type"], found["errors"][0]["path"]) == ("NOT_FOUND", ["nodes", 1])


def test_a_success_turns_the_one_before_it_inactive(fake: FakeGitHub, world: World, shop: Repository) -> None:
    world.set_status(shop, world.deploy(shop), "SUCCESS")
    world.set_status(shop, world.deploy(shop, "staging"), "SUCCESS")
    world.advance(60)
    world.set_status(shop, world.deploy(shop), "SUCCESS")
    document = "query($id: ID!) { node(id: $id) { ... on Repository { deployments(first: 9) { nodes { state updatedAt \
      statuses(first: 9) { nodes { state } } } } } } }"
    nodes = query(fake, document, id=shop.node_id)["data"]["node"]["deployments"]["nodes"]
    assert [one["state"] for one in nodes] == ["INACTIVE", "ACTIVE", "ACTIVE"]
    assert [one["state"] for one in nodes[0]["statuses"]["nodes"]] == ["INACTIVE", "SUCCESS"]
    assert nodes[0]["updatedAt"] == "2026-03-01T12:01:00Z"


def test_the_pull_request_of_a_deleted_fork_has_no_head_repository(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    pull = world.open_pull(shop, fork=True)
    document = "query($id: ID!) { node(id: $id) { ... on PullRequest { headRepository { nameWithOwner } } } }"
    assert query(fake, document, id=f"PR_{pull.id}")["data"]["node"]["headRepository"] == {"nameWithOwner": "ada/shop"}
    world.delete_fork(pull)
    assert query(fake, document, id=f"PR_{pull.id}")["data"]["node"] == {"headRepository": None}


def test_a_query_for_too_many_nodes_is_refused() -> None:
    document = '{ organization(login: "acme") { repositories(first: 100) { nodes { pullRequests(first: 100) { nodes { \
      commits(first: 100) { totalCount } } } } } } }'
    assert graphql.price(document, {}) == (101, 1_010_100)
    assert graphql.execute(World(), document, {})["errors"][0]["type"] == "MAX_NODE_LIMIT_EXCEEDED"


# --- limits and faults -----------------------------------------------------------------------------------------------


def test_points_run_out_and_come_back_when_the_window_has_expired(
    fake: FakeGitHub, world: World, shop: Repository
) -> None:
    world.rate_limit = RateLimit(limit=2)
    document = '{ organization(login: "acme") { login } rateLimit { remaining } }'
    statuses = [ask(fake, runs_of(shop))[0] for _ in range(3)]
    _, _, refused = ask(fake, runs_of(shop))
    assert statuses == [200, 200, 403]
    assert (refused["x-ratelimit-remaining"], refused["x-ratelimit-limit"]) == ("0", "2")
    assert int(refused["x-ratelimit-reset"]) == world.now.timestamp() + 3600
    assert ask(fake, "/rate_limit")[1]["resources"]["core"]["remaining"] == 0
    assert query(fake, document)["data"]["rateLimit"] == {"remaining": 1}
    query(fake, document)
    assert query(fake, document)["errors"][0]["type"] == "RATE_LIMITED"
    world.advance(3599)
    assert ask(fake, runs_of(shop))[0] == 403
    world.advance(1)
    assert ask(fake, runs_of(shop))[0] == 200


def test_answers_carry_the_worlds_time(fake: FakeGitHub, shop: Repository) -> None:
    assert ask(fake, runs_of(shop))[2]["date"] == "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("fault", "status", "headers"),
    [
        (faults.secondary_limit(30), 403, {"retry-after": "30"}),
        (faults.primary_limit(99), 403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99"}),
        (faults.too_many_requests(), 429, {}),
        (faults.bad_gateway(), 502, {}),
        (faults.web_page(), 200, {"content-type": "text/html; charset=utf-8"}),
    ],
)
def test_a_fault_is_played_as_often_as_asked_and_where_it_matches(
    fake: FakeGitHub, shop: Repository, fault: faults.Fault, status: int, headers: dict[str, str]
) -> None:
    fake.faults.add(fault, match=lambda request: request.query.get("page") == "2", times=2)
    assert ask(fake, runs_of(shop), page=1)[0] == 200
    found, _, said = ask(fake, runs_of(shop), page=2)
    assert found == status
    assert headers.items() <= said.items()
    ask(fake, runs_of(shop), page=2)
    assert ask(fake, runs_of(shop), page=2)[2].get("content-type") == "application/json; charset=utf-8"


def test_a_truncated_answer_is_a_part_of_the_true_one(fake: FakeGitHub, world: World, shop: Repository) -> None:
    complete(world, shop)
    fake.faults.add(faults.truncated())
    door = http.client.HTTPConnection(urlsplit(fake.url).netloc, timeout=10)
    door.request("GET", runs_of(shop), headers=GOOD)
    answer = door.getresponse()
    said = answer.read().decode()
    door.close()
    assert (answer.status, said[:16]) == (200, '{"total_count": ')
    with pytest.raises(json.JSONDecodeError):
        json.loads(said)


def test_a_partial_answer_has_data_and_errors(fake: FakeGitHub, shop: Repository) -> None:
    fake.faults.add(faults.graphql_partial("organization", "repositories", "nodes", 0))
    found = query(fake, '{ organization(login: "acme") { login repositories(first: 1) { nodes { id } } } }')
    assert found["data"]["organization"] == {"login": "acme", "repositories": {"nodes": [None]}}
    assert found["errors"][0]["path"] == ["organization", "repositories", "nodes", 0]


def test_a_crash_lasts_from_its_request_until_it_is_recovered(fake: FakeGitHub, shop: Repository) -> None:
    fake.crash_after(2)
    assert ask(fake, runs_of(shop))[0] == 200
    for _ in range(3):
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(fake, runs_of(shop))
    fake.recover()
    assert ask(fake, runs_of(shop))[0] == 200


def test_the_reference_world_holds_what_was_asked_for() -> None:
    world = build_reference_world(40, 8, 20, 4, 3, 2, repositories=3)
    every = world.repositories.values()
    names = ("commits", "pulls", "runs", "deployments", "issues", "releases")
    assert [sum(len(getattr(one, name)) for one in every) for name in names] == [40, 8, 20, 4, 3, 2]


def _first(shop: Repository) -> str:
    return f"DE_{shop.deployments[0].id}"
