"""The client against a server of its own: each trap of PyGithub and of the API, by one test."""

from __future__ import annotations

import copy
import gzip
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from analytics.errors import SourceError
from analytics.secrets import Secret
from analytics.sources.github import client as client_module
from analytics.sources.github.client import (
    BadBodyError,
    GitHubClient,
    GraphQLRefusedError,
    NotFoundError,
    RefusedError,
)
from analytics.sources.github.credentials import Credential
from analytics.sources.limits import Budget, RateLimitedError

# Of no form that is known as a token's: only knowing it can hide it.
TOKEN = "canaryCanaryCanary0001"


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Said:
    status: int = 200
    body: str | bytes = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    # The body is longer than what comes of it.
    missing: int = 0


@dataclass
class Host:
    """Says what it is told to, in this order; then the last again."""

    url: str
    says: list[Said] = field(default_factory=lambda: [Said()])
    answer: Callable[[Asked], Said] | None = None
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, asked: Asked) -> Said:
        with self.lock:
            self.asked.append(asked)
            if self.answer:
                return self.answer(asked)
            return self.says.pop(0) if len(self.says) > 1 else self.says[0]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("QD_CANARY", TOKEN)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def do_GET(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def serve(self) -> None:
            split = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            said = found.reply(
                Asked(self.command, split.path, parse_qs(split.query), headers, json.loads(sent) if sent else None)
            )
            data = said.body.encode() if isinstance(said.body, str) else said.body
            self.send_response_only(said.status)
            for name, value in {"Content-Type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) + said.missing))
            self.end_headers()
            self.wfile.write(data)
            if said.missing:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Host(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def credential(base_url: str) -> Credential:
    return Credential(Secret("${QD_CANARY}"), None, None, None, base_url)


def asking(host: Host, *, prefix: str = "", wait: float = 0, sleeps: list[float] | None = None) -> GitHubClient:
    """A client whose sleeping is only noted."""
    noted = sleeps if sleeps is not None else []
    moved = [0.0]

    def sleep(seconds: float) -> None:
        noted.append(seconds)
        moved[0] += seconds

    budget = Budget(max_wait_seconds=wait, clock=lambda: 1_790_000_000.0 + moved[0], sleep=sleep)
    return GitHubClient(credential(host.url + prefix), host.url + prefix, budget)


def test_an_answer_is_its_raw_text_with_what_paging_needs(host: Host) -> None:
    following = f'<{host.url}/x?page=2>; rel="next", <{host.url}/x?page=9>; rel="last"'
    host.says = [
        Said(body='{"a" : "ä"}', headers={"ETag": '"1"', "Link": following, "Date": "Mon, 01 Jun 2026 12:00:00 GMT"})
    ]
    answer = asking(host).get("/x", {"per_page": 100})
    assert (answer.status, answer.body, answer.etag) == (200, '{"a" : "ä"}', '"1"')
    assert (answer.next_url, answer.url) == (f"{host.url}/x?page=2", "/x?per_page=100")
    assert answer.server_time == datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert host.asked[0].headers["authorization"] == f"token {TOKEN}"


def test_a_saved_next_address_is_asked_as_it_is(host: Host) -> None:
    asking(host).get(f"{host.url}/x?page=2&created=2026-01-01..2026-02-01")
    assert host.asked[0].query == {"page": ["2"], "created": ["2026-01-01..2026-02-01"]}


def test_a_304_comes_back_without_a_body(host: Host) -> None:
    host.says = [Said(304, "", {"ETag": '"1"'})]
    answer = asking(host).get("/x", etag='"1"')
    assert (answer.status, answer.body, answer.etag) == (304, "", '"1"')
    assert host.asked[0].headers["if-none-match"] == '"1"'


def test_threads_get_the_answers_to_their_own_questions(host: Host) -> None:
    host.answer = lambda asked: Said(body=json.dumps({"path": asked.path}))
    client = asking(host)
    paths = [f"/x/{number}" for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        bodies = [json.loads(answer.body)["path"] for answer in threads.map(client.get, paths)]
    assert bodies == paths


def test_each_thread_has_a_client_of_its_own(host: Host) -> None:
    client = asking(host)
    barrier = threading.Barrier(3)

    def own(_: int) -> int:
        found = client._github()
        barrier.wait()
        return id(found)

    with ThreadPoolExecutor(3) as threads:
        assert len(set(threads.map(own, range(3)))) == 3


def test_neither_client_nor_credential_is_pickled(host: Host) -> None:
    client = asking(host)
    client.get("/x")
    for held in (client, credential(host.url)):
        with pytest.raises(TypeError):
            pickle.dumps(held)
        with pytest.raises(TypeError):
            copy.deepcopy(held)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("relative", [False, True])
def test_a_redirection_keeps_the_parameters(host: Host, status: int, relative: bool) -> None:
    where = "/repositories/1/issues" if relative else f"{host.url}/repositories/1/issues"
    host.answer = lambda asked: Said(status, "{}", {"Location": where}) if asked.path.startswith("/repos/") else Said()
    answer = asking(host).get("/repos/acme/old/issues?state=all", {"labels": "a,b", "page": 2})
    assert host.asked[-1].path == "/repositories/1/issues"
    assert host.asked[-1].query == {"state": ["all"], "labels": ["a,b"], "page": ["2"]}
    assert answer.url.startswith("/repositories/1/issues?")


def test_a_redirection_repeats_a_post_with_its_body(host: Host) -> None:
    host.answer = lambda asked: Said(307, "{}", {"Location": "/new"}) if asked.path == "/old" else Said()
    asking(host).post("/old", {"a": 1})
    assert [(asked.method, asked.path, asked.body) for asked in host.asked] == [
        ("POST", "/old", {"a": 1}),
        ("POST", "/new", {"a": 1}),
    ]


def test_a_redirection_in_a_circle_ends(host: Host) -> None:
    host.says = [Said(301, "{}", {"Location": f"{host.url}/x"})]
    with pytest.raises(SourceError, match="without an end"):
        asking(host).get("/x")
    assert len(host.asked) == client_module.ATTEMPTS


@pytest.mark.parametrize("where", ["http://elsewhere.test/x", "//elsewhere.test/x"])
def test_no_other_host_is_asked(host: Host, where: str) -> None:
    host.says = [Said(301, "{}", {"Location": where})]
    with pytest.raises(SourceError, match="another host"):
        asking(host).get("/x")
    assert len(host.asked) == 1


def test_the_client_of_an_enterprise_server_asks_below_its_prefix(host: Host) -> None:
    host.says = [Said(body='{"data": {}}')]
    client = asking(host, prefix="/api/v3")
    client.get("/rate_limit")
    client.query("{a}", {})
    assert [asked.path for asked in host.asked] == ["/api/v3/rate_limit", "/api/graphql"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html>maintenance</html>", "html_body"),
        ("\n <!DOCTYPE html>", "html_body"),
        ('{"total_count": 3, "workflow_ru', "json_truncated"),
        ("", "json_truncated"),
        ("it works", "not_json"),
        ("{} {}", "not_json"),
        ("[" * 100_000, "not_json"),
    ],
)
@pytest.mark.parametrize("ask", ["get", "post", "query"])
def test_a_body_that_is_no_json_has_a_reason(host: Host, body: str, reason: str, ask: str) -> None:
    host.says = [Said(body=body, headers={"Content-Type": "text/html"})]
    client = asking(host)
    with pytest.raises(BadBodyError) as caught:
        client.get("/x") if ask == "get" else client.post("/x", {}) if ask == "post" else client.query("{a}", {})
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 400


def test_an_answer_that_breaks_off_is_asked_for_again(host: Host) -> None:
    host.says = [Said(body='{"a": ', missing=10), Said(body='{"a": 1}')]
    assert asking(host).get("/x").body == '{"a": 1}'


def test_answers_that_go_on_breaking_off_are_said_to(host: Host) -> None:
    host.says = [Said(body='{"a": ', missing=10)]
    with pytest.raises(SourceError, match="broke off"):
        asking(host).get("/x")


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_above_the_cap_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 1_000_000)
    body = json.dumps(" " * 1_000_000).encode()
    host.says = [Said(body=gzip.compress(body), headers={"Content-Encoding": "gzip"}) if packed else Said(body=body)]
    with pytest.raises(SourceError, match="longer than 1,000,000 bytes"):
        asking(host).get("/x")


def test_an_answer_that_github_still_prepares_is_not_waited_for(host: Host) -> None:
    host.says = [Said(202)]
    with pytest.raises(SourceError, match="still preparing"):
        asking(host).get("/x")
    assert len(host.asked) == 1


@pytest.mark.parametrize("ask", ["get", "query"])
def test_a_bad_gateway_is_asked_again(host: Host, ask: str) -> None:
    host.says = [Said(502, "<html>"), Said(502, "<html>"), Said(body='{"data": {}}')]
    client = asking(host)
    assert (client.get("/x") if ask == "get" else client.query("{a}", {})).status == 200


def test_a_lasting_bad_gateway_is_an_error_in_words(host: Host) -> None:
    host.says = [Said(502, '{"data": null, "errors": [{"message": "Something went wrong"}]}')]
    with pytest.raises(SourceError, match="status 502: Something went wrong"):
        asking(host).query("{a}", {})


LIMITS = [
    Said(429, '{"message": "Too many requests"}'),
    Said(429, "<html>", {"Retry-After": "30"}),
    Said(403, '{"message": "You have exceeded a secondary rate limit."}', {"Retry-After": "30"}),
    Said(403, '{"message": "You have exceeded a secondary rate limit."}'),
    Said(403, '{"message": "forbidden"}', {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1790000030"}),
]
QUERY_LIMITS = [
    Said(body='{"data": null, "errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}'),
    Said(body='{"errors": [{"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": "exceeded"}]}'),
    Said(body='{"message": "You have exceeded a secondary rate limit."}'),
]


@pytest.mark.parametrize("said", LIMITS + QUERY_LIMITS)
def test_a_limit_is_waited_for_where_that_is_short(host: Host, said: Said) -> None:
    host.says = [said, Said(body='{"data": {"a": 1}}')]
    sleeps: list[float] = []
    client = asking(host, wait=60, sleeps=sleeps)
    assert (client.query("{a}", {}) if said in QUERY_LIMITS else client.get("/x")).status == 200
    assert len(sleeps) == 1
    assert 29 < sleeps[0] <= 60


@pytest.mark.parametrize("said", LIMITS + QUERY_LIMITS)
def test_a_limit_stops_with_its_time_where_waiting_takes_too_long(host: Host, said: Said) -> None:
    host.says = [said]
    client = asking(host)
    with pytest.raises(RateLimitedError) as caught:
        client.query("{a}", {}) if said in QUERY_LIMITS else client.get("/x")
    assert caught.value.resume_at > datetime.fromtimestamp(1_790_000_020, UTC)
    assert len(host.asked) == 1


@pytest.mark.parametrize("said", LIMITS + QUERY_LIMITS)
def test_a_limit_that_does_not_end_stops_with_a_time_in_the_future(host: Host, said: Said) -> None:
    host.says = [said]
    client = asking(host, wait=60)
    with pytest.raises(RateLimitedError) as caught:
        client.query("{a}", {}) if said in QUERY_LIMITS else client.get("/x")
    assert caught.value.resume_at > datetime.fromtimestamp(1_790_000_029, UTC)


def test_an_hour_that_is_used_up_is_seen_before_it_is_refused(host: Host) -> None:
    left = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "1790001800"}
    host.says = [Said(headers=left)]
    client = asking(host)
    client.get("/x")
    with pytest.raises(RateLimitedError):
        client.get("/x")
    assert len(host.asked) == 1


@pytest.mark.parametrize("status", [404, 410, 451])
def test_what_is_not_there_is_named(host: Host, status: int) -> None:
    host.says = [Said(status, '{"message": "Not Found"}')]
    with pytest.raises(NotFoundError, match="/repositories/7"):
        asking(host).get("/repositories/7")


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (401, {}, "Renew the token of ${QD_CANARY}"),
        (403, {"X-Accepted-GitHub-Permissions": "actions=read"}, "the permission actions=read"),
        (403, {"X-Accepted-OAuth-Scopes": "repo", "X-OAuth-Scopes": "gist"}, "scopes repo; it has: gist"),
        (403, {"X-GitHub-SSO": "required; url=https://github.com/x"}, "single sign-on"),
        (403, {}, "must be allowed to read actions"),
    ],
)
def test_a_refusal_says_what_is_lacking(host: Host, status: int, headers: dict[str, str], said: str) -> None:
    host.says = [Said(status, '{"message": "Resource not accessible by integration"}', headers)]
    with pytest.raises(RefusedError) as caught:
        asking(host).get("/x")
    assert "Resource not accessible" in caught.value.what
    assert said in (caught.value.fix or "")


def test_an_unprocessable_request_shows_githubs_reason(host: Host) -> None:
    host.says = [Said(422, '{"message": "Validation Failed", "errors": [{"message": "too old"}]}')]
    with pytest.raises(SourceError, match="Validation Failed: too old"):
        asking(host).get("/x")


def test_the_data_beside_graphql_errors_is_kept(host: Host) -> None:
    body = {"data": {"a": 1, "b": None}, "errors": [{"type": "FORBIDDEN", "message": "x" * 60_000}]}
    host.says = [Said(body=json.dumps(body))]
    with pytest.raises(GraphQLRefusedError) as caught:
        asking(host).query("{a b}", {})
    assert (caught.value.data, caught.value.types) == ({"a": 1, "b": None}, ["FORBIDDEN"])
    assert len(str(caught.value)) < 600
    assert all(len(message) <= 500 for message in caught.value.messages)


def test_a_query_gives_its_data_and_its_raw_text(host: Host) -> None:
    host.says = [Said(body='{"data": {"a": 1}}')]
    answer = asking(host).query("query($n: Int) {a(n: $n)}", {"n": 2})
    assert (answer.data, answer.body) == ({"a": 1}, '{"data": {"a": 1}}')
    assert host.asked[0].body == {"query": "query($n: Int) {a(n: $n)}", "variables": {"n": 2}}


def test_queries_do_not_wait_for_each_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyGithub would let one write pass a second."""
    host.says = [Said(body='{"data": {}}')]
    client = asking(host)
    slept: list[float] = []
    monkeypatch.setattr("github.Requester.time.sleep", slept.append)
    for _ in range(3):
        client.query("{a}", {})
    assert slept == []


def test_nothing_listening_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QD_CANARY", TOKEN)
    url = "http://127.0.0.1:1"
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        GitHubClient(credential(url), url, Budget(), retries=0).get("/x")
    assert "base_url" in str(caught.value)


def test_headers_that_make_no_sense_are_an_error_in_words(host: Host) -> None:
    host.says = [Said(headers={"X-RateLimit-Limit": "many", "X-RateLimit-Remaining": "some"})]
    with pytest.raises(SourceError):
        asking(host).get("/x")


def test_a_token_that_no_header_can_carry_is_not_repeated(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (f"{TOKEN}\nx", f"{TOKEN} x", f"{TOKEN}ä"):
        monkeypatch.setenv("QD_CANARY", value)
        with pytest.raises(SourceError, match="no token has") as caught:
            asking(host).get("/x")
        assert TOKEN not in str(caught.value)


def test_the_token_is_in_no_log_and_no_error(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # Other libraries that stand on urllib3 quieten it for the whole process.
    caplog.set_level(logging.DEBUG, logger="urllib3")
    body = json.dumps({"message": f"bad credential {TOKEN}", "url": "https://s.test/a?sig=canarySignature&se=1"})
    host.says = [Said(403, body), Said(200, f"<html>{TOKEN}"), Said(200, json.dumps({"errors": [{"message": TOKEN}]}))]
    client = asking(host)
    texts = []
    for ask in (lambda: client.get("/x"), lambda: client.get("/x"), lambda: client.query("{a}", {})):
        with pytest.raises(SourceError) as caught:
            ask()
        texts.append(str(caught.value) + repr(caught.value))
    assert "GET" in caplog.text
    for secret in (TOKEN, "canarySignature"):
        assert secret not in caplog.text + "".join(texts)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path / "app.pem"
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return path


def app(host: Host, key: Path) -> Credential:
    return Credential(None, 12, 34, Secret(f"file:{key}"), host.url)


def test_an_app_asks_with_the_token_of_its_installation(
    host: Host, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = {"token": "ghs_canaryCanaryCanaryCanary0002", "expires_at": "2099-01-01T00:00:00Z"}
    host.answer = lambda asked: Said(201, json.dumps(token)) if asked.method == "POST" else Said()
    client = GitHubClient(app(host, key), host.url, Budget())
    for _ in range(2):
        client.get("/x")
    assert [(asked.method, asked.path) for asked in host.asked] == [
        ("POST", "/app/installations/34/access_tokens"),
        ("GET", "/x"),
        ("GET", "/x"),
    ]
    assert host.asked[0].headers["authorization"].startswith("Bearer eyJ")
    assert host.asked[1].headers["authorization"] == f"token {token['token']}"
    assert app(host, key).git_token() == token["token"]
    assert "canaryCanary" not in caplog.text
    assert host.asked[0].headers["authorization"].split()[1] not in caplog.text


def test_an_app_without_an_installation_says_what_to_check(host: Host, key: Path) -> None:
    host.says = [Said(404, '{"message": "Not Found"}')]
    for ask in (lambda: GitHubClient(app(host, key), host.url, Budget()).get("/x"), app(host, key).git_token):
        with pytest.raises(SourceError, match="installation 34 of app 12") as caught:
            ask()
        assert "app.installation_id" in (caught.value.fix or "")


def test_a_private_key_that_is_none_is_not_repeated(host: Host, key: Path) -> None:
    key.write_text("canaryKey", "utf-8")
    with pytest.raises(SourceError, match="cannot sign") as caught:
        GitHubClient(app(host, key), host.url, Budget()).get("/x")
    assert "canaryKey" not in str(caught.value)


def test_a_private_key_on_one_line_is_read(host: Host, key: Path) -> None:
    key.write_text(key.read_text("utf-8").replace("\n", "\\n"), "utf-8")
    app(host, key).auth()
