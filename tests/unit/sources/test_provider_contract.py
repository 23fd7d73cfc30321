"""What every provider behind the port keeps to: one scripted world, told by each kind of source.

Commits where the source has them, else what it has: incidents, samples.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from analytics.errors import SourceError
from analytics.landing.providers import provider_of
from analytics.landing.store import LandingStore
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings
from analytics.sources import feed_pages
from analytics.sources import git as git_source
from analytics.sources.port import Provider
from analytics.sources.prometheus import provider as prometheus
from tests.fakes.github.pulling import workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World
from tests.fakes.gitlab.server import TOKEN as GITLAB_TOKEN
from tests.fakes.gitlab.server import FakeGitLab
from tests.fakes.gitlab.world import World as GitLabWorld
from tests.fakes.jira.server import EMAIL as JIRA_EMAIL
from tests.fakes.jira.server import TOKEN as JIRA_TOKEN
from tests.fakes.jira.server import FakeJira
from tests.fakes.jira.world import World as JiraWorld
from tests.fakes.pagerduty.server import TOKEN as PAGERDUTY_TOKEN
from tests.fakes.pagerduty.server import FakePagerDuty
from tests.fakes.pagerduty.world import World as PagerDutyWorld
from tests.fakes.prometheus.server import FakePrometheus
from tests.fakes.prometheus.server import World as PrometheusWorld
from tests.unit.sources import git_world

# More than one page of every provider's.
MANY = 250


class Told(ABC):
    """The scripted world as one kind of source tells it."""

    settings: Settings
    entity = "commits"
    identity = "sha"

    @abstractmethod
    def commit(self, count: int = 1) -> None:
        """So many commits (or what else the source tells of) are made."""

    @abstractmethod
    def vanish(self) -> None:
        """The source is not there any more."""

    @property
    @abstractmethod
    def shas(self) -> set[str]:
        """What tells every one of them that there is."""

    def provider(self) -> Provider:
        """A provider that knows nothing but the settings, as after a restart."""
        return provider_of(self.settings, self.settings.sources[0])


def settings_of(folder: Path, source: dict[str, Any]) -> Settings:
    return Settings.model_validate({"organization": "Acme", "storage": folder / "data", "sources": [source]})


class ToldByFiles(Told):
    def __init__(self, folder: Path) -> None:
        self.feeds = folder / "feeds"
        self.feeds.mkdir()
        (self.feeds / "commits.jsonl").touch()
        self.settings = settings_of(folder, {"type": "files", "name": "drops", "path": self.feeds})
        self.made: list[str] = []

    def commit(self, count: int = 1) -> None:
        with (self.feeds / "commits.jsonl").open("a", encoding="utf-8") as file:
            for _ in range(count):
                self.made.append(f"{len(self.made):040x}")
                at = "2026-01-01T00:00:00Z"
                record = {"repository": "acme/shop", "sha": self.made[-1], "authored_at": at, "committed_at": at}
                file.write(json.dumps(record) + "\n")

    def vanish(self) -> None:
        self.feeds.rename(self.feeds.with_name("elsewhere"))

    @property
    def shas(self) -> set[str]:
        return set(self.made)


class ToldByGit(Told):
    def __init__(self, folder: Path) -> None:
        self.shop = git_world.Repository(folder / "shop")
        self.shop.commit("first")
        self.folder = folder
        source = {"type": "git", "name": "clones", "repositories": {"acme/shop": str(self.shop.path)}}
        (folder / "catalog.yaml").write_text("services: [{name: shop, repository: acme/shop}]", "utf-8")
        self.settings = settings_of(folder, source).model_copy(update={"catalog": folder / "catalog.yaml"})

    def commit(self, count: int = 1) -> None:
        lines = []
        for number in range(count):
            parent = "from refs/heads/main^0\n" if number == 0 else ""
            who = f"Ada <ada@example.org> {git_world.START + number} +0000"
            lines.append(f"commit refs/heads/main\ncommitter {who}\ndata 4\nstep\n{parent}")
        self.shop.git("fast-import", "--quiet", data="\n".join(lines).encode())

    def vanish(self) -> None:
        self.shop.path.rename(self.folder / "elsewhere")

    @property
    def shas(self) -> set[str]:
        return set(self.shop.git("rev-list", "--all").split())


class ToldByGitHub(Told):
    def __init__(self, folder: Path, fake: FakeGitHub) -> None:
        self.fake = fake
        self.shop = fake.world.repository("shop")
        self.settings = workspace(folder, fake)

    def commit(self, count: int = 1) -> None:
        self.fake.world.push(self.shop, count)
        self.fake.world.advance(120)

    def vanish(self) -> None:
        self.fake.answers_left = 0

    @property
    def shas(self) -> set[str]:
        return set(self.shop.graph)


class ToldByGitLab(ToldByGit):
    """Commits come through git; which projects there are is GitLab's to tell."""

    def __init__(self, folder: Path, fake: FakeGitLab) -> None:
        super().__init__(folder)
        self.fake = fake
        fake.world.project("shop", str(self.shop.path))
        source = {"type": "gitlab", "name": "lab", "group": "acme", "token": "${QD_FAKE_TOKEN}", "base_url": fake.url}
        self.settings = settings_of(folder, source).model_copy(update={"catalog": folder / "catalog.yaml"})

    def vanish(self) -> None:
        self.fake.answers_left = 0


class ToldByPagerDuty(Told):
    entity = "incidents"
    identity = "incident_id"

    def __init__(self, folder: Path, fake: FakePagerDuty) -> None:
        self.fake = fake
        (folder / "catalog.yaml").write_text("services: [{name: shop, repository: acme/shop}]", "utf-8")
        source = {"type": "pagerduty", "name": "pager", "token": "${QD_FAKE_TOKEN}", "base_url": fake.url}
        self.settings = settings_of(folder, source).model_copy(update={"catalog": folder / "catalog.yaml"})

    def commit(self, count: int = 1) -> None:
        for _ in range(count):
            self.fake.world.trigger()
            self.fake.world.advance(60)

    def vanish(self) -> None:
        self.fake.answers_left = 0

    @property
    def shas(self) -> set[str]:
        return {f"pagerduty:{raw['id']}" for raw in self.fake.world.incidents}


class ToldByJira(Told):
    entity = "incidents"
    identity = "key"

    def __init__(self, folder: Path, fake: FakeJira) -> None:
        self.fake = fake
        (folder / "catalog.yaml").write_text("services: [{name: shop, repository: acme/shop}]", "utf-8")
        source = {
            "type": "jira", "name": "tickets", "token": "${QD_FAKE_TOKEN}", "email": JIRA_EMAIL, "base_url": fake.url,
        }  # fmt: skip
        self.settings = settings_of(folder, source).model_copy(update={"catalog": folder / "catalog.yaml"})

    def commit(self, count: int = 1) -> None:
        for _ in range(count):
            self.fake.world.issue()
            self.fake.world.advance(60)

    def vanish(self) -> None:
        self.fake.answers_left = 0

    @property
    def shas(self) -> set[str]:
        return {raw["key"] for raw in self.fake.world.issues}


class ToldByPrometheus(Told):
    entity = "slo_samples"
    identity = "at"

    def __init__(self, folder: Path, fake: FakePrometheus) -> None:
        self.fake = fake
        self.begun = fake.world.now = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
        self.count = 0
        fake.world.add("budget", {"service": "shop"}, lambda at: 0.5 if self.begun < at else None)
        (folder / "catalog.yaml").write_text("services: [{name: shop, repository: acme/shop}]", "utf-8")
        source = {
            "type": "prometheus", "name": "budgets", "base_url": fake.url, "since": "2026-01-05",
            "slos": {"availability": {"query": "budget", "step_seconds": 60}},
        }  # fmt: skip
        self.settings = settings_of(folder, source).model_copy(update={"catalog": folder / "catalog.yaml"})

    def commit(self, count: int = 1) -> None:
        self.count += count
        self.fake.world.advance(60 * count)

    def vanish(self) -> None:
        self.fake.answers_left = 0

    @property
    def shas(self) -> set[str]:
        times = range(self.begun + 60, self.begun + 60 * self.count + 1, 60)
        return {datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in times}


@pytest.fixture(params=["files", "git", "github", "gitlab", "pagerduty", "jira", "prometheus"])
def told(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 100)
    monkeypatch.setattr(feed_pages, "PAGE_RECORDS", 100)
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with ExitStack() as stack:
        if request.param == "github":
            yield ToldByGitHub(tmp_path, stack.enter_context(FakeGitHub(World())))
        elif request.param == "gitlab":
            monkeypatch.setenv("QD_FAKE_TOKEN", GITLAB_TOKEN)
            yield ToldByGitLab(tmp_path, stack.enter_context(FakeGitLab(GitLabWorld())))
        elif request.param == "pagerduty":
            monkeypatch.setenv("QD_FAKE_TOKEN", PAGERDUTY_TOKEN)
            monkeypatch.setattr("pagerduty.api_client.time.sleep", lambda seconds: None)
            yield ToldByPagerDuty(tmp_path, stack.enter_context(FakePagerDuty(PagerDutyWorld())))
        elif request.param == "jira":
            monkeypatch.setenv("QD_FAKE_TOKEN", JIRA_TOKEN)
            yield ToldByJira(tmp_path, stack.enter_context(FakeJira(JiraWorld())))
        elif request.param == "prometheus":
            monkeypatch.setattr(prometheus, "LAG_SECONDS", 0)
            monkeypatch.setattr(prometheus, "POINTS", 100)
            yield ToldByPrometheus(tmp_path, stack.enter_context(FakePrometheus(PrometheusWorld())))
        else:
            yield {"files": ToldByFiles, "git": ToldByGit}[request.param](tmp_path)


def sync(told: Told, pages: int | None = None) -> int:
    """Land what is new, or so many pages of it as a killed pull lands; gives the records landed."""
    provider = told.provider()
    landed = 0
    with LandingStore.open(told.settings, provider.name) as store:
        for key in provider.discover().requests[told.entity]:
            cursor = store.cursor(told.entity, key)
            for page in islice(provider.changes(told.entity, key, cursor), pages):
                landed += store.land(page).items
    return landed


def shas(told: Told) -> set[str]:
    with open_landing(told.settings) as con:
        rows = con.execute(f"SELECT payload FROM {create_winners(con, told.entity)}").fetchall()
    return {json.loads(payload)[told.identity] for (payload,) in rows}


def test_it_offers_what_it_says_it_can(told: Told) -> None:
    provider = told.provider()
    told.commit()
    offered = provider.discover().requests
    assert told.entity in offered
    assert offered.keys() <= provider.capabilities().entities
    assert provider.capabilities().refresh <= provider.capabilities().entities
    assert provider.name == told.settings.sources[0].name


def test_the_first_sync_gives_all_there_is(told: Told) -> None:
    told.commit(MANY)
    sync(told)
    assert shas(told) == told.shas
    assert len(told.shas) >= MANY


def test_a_sync_of_what_did_not_change_gives_nothing(told: Told) -> None:
    told.commit(3)
    sync(told)
    assert sync(told) == 0


def test_a_later_sync_gives_what_is_new_alone(told: Told) -> None:
    told.commit(3)
    sync(told)
    told.commit(2)
    assert sync(told) == 2
    assert shas(told) == told.shas


def test_a_sync_that_broke_off_goes_on_behind_the_last_page(told: Told) -> None:
    told.commit(MANY)
    first = sync(told, pages=1)
    assert 0 < first < MANY
    second = sync(told, pages=1)
    assert 0 < second < MANY
    sync(told)
    assert shas(told) == told.shas


def test_what_was_added_while_it_was_broken_off_comes_too(told: Told) -> None:
    told.commit(MANY)
    sync(told, pages=1)
    told.commit(5)
    sync(told)
    sync(told)
    assert shas(told) == told.shas


def test_cursors_are_plain_json_and_records_stand_on_lines_of_their_own(told: Told) -> None:
    told.commit(MANY)
    provider = told.provider()
    for key in provider.discover().requests[told.entity]:
        places: set[tuple[int, int, int]] = set()
        for number, page in enumerate(provider.changes(told.entity, key, None)):
            assert json.loads(json.dumps(page.cursor)) == page.cursor
            # What is observed stands on a page of its own.
            places |= {(number if page.observed else 0, page.generation, record.line) for record in page.records}
            assert all(record.line > 0 for record in page.records)
        assert len(places) == len(told.shas)


def test_a_request_that_nobody_offered_is_refused_with_words(told: Told) -> None:
    told.commit()
    provider = told.provider()
    provider.discover()
    with pytest.raises(SourceError, match=r"has no|no such"):
        list(provider.changes(told.entity, "acme/elsewhere", None))


def test_a_source_that_is_gone_says_so_and_keeps_what_was_landed(told: Told) -> None:
    told.commit(3)
    sync(told)
    before = shas(told)
    told.vanish()
    with pytest.raises(SourceError):
        sync(told)
    assert shas(told) == before
