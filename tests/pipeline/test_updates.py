"""A build that updates the last one must never show: every table is what a build of everything makes of the same."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from analytics.delivery import build as building
from analytics.delivery import update
from analytics.delivery.build import build
from analytics.delivery.summary import BuildSummary
from analytics.engine import connect
from analytics.errors import LakeError
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation
from analytics.landing.pull import pull
from analytics.metrics.measure import measure
from analytics.settings import Settings, load_settings
from analytics.sources.entities import ENTITIES
from analytics.supply_chain import verify as verifying
from analytics.supply_chain.verify import verify
from tests.fakes import s3 as fake_s3
from tests.fakes.s3 import KEY, SECRET
from tests.pipeline.conftest import SHOP, sha_of, stamp

if TYPE_CHECKING:
    import s3fs

    from tests.pipeline.conftest import World

s3, s3_endpoint = fake_s3.s3, fake_s3.s3_endpoint

# What a build notes of itself differs, and what it took from where does not.
OWN = ("build_note",)
SEEDS = (20, 21, 22, 100, 309)
Records = dict[str, list[dict[str, Any]]]


def rows_of(lake: Path) -> dict[str, list[str]]:
    """Every row of every table with its quarter, in no order."""
    found: dict[str, list[str]] = {}
    with duckdb.connect() as con:
        for folder in sorted(lake.iterdir()):
            if folder.name not in OWN and any(folder.glob("*/*.parquet")):
                pattern = str(folder / "*" / "*.parquet")
                result = con.execute(f"SELECT * FROM read_parquet('{pattern}', hive_partitioning = true)")
                names = [column[0] for column in result.description]
                found[folder.name] = sorted(repr(sorted(zip(names, row, strict=True))) for row in result.fetchall())
    return found


class Daily:
    """A world whose records come in day by day, with a lake that is updated."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.day = 0

    def update(self, records: Records, now: str | None = None) -> BuildSummary:
        """Land the records of a day and build."""
        self.day += 1
        if now is not None:
            self.world.set(now=now)
        self.world.declare()
        self.world.feeds.mkdir(exist_ok=True)
        for entity, arrived in records.items():
            if arrived:
                self.world.write_feed(f"{entity}/day{self.day}.jsonl", arrived)
        self.settings = load_settings(self.world.settings_path)
        pull(self.settings)
        return build(self.settings)

    def check(self) -> None:
        """Compare every table with those of a build of everything, in another place."""
        updated = rows_of(self.settings.lake_dir)
        elsewhere = self.world.path / "whole"
        shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.copytree(self.settings.landing_dir, elsewhere / "landing")
        whole = self.settings.model_copy(update={"stored": self.settings.stored.model_copy(update={"path": elsewhere})})
        assert whole.landing_dir != self.settings.landing_dir
        assert build(whole).whole == "no build has been completed before"
        anew = rows_of(whole.lake_dir)
        assert updated.keys() == anew.keys()
        for table, rows in anew.items():
            assert updated[table] == rows, table


def lively(world: World, rng: random.Random) -> float:
    """Tell a world a past with branches, reverts, picks, pull requests, rollbacks and incidents; its hours."""
    commits, deployments = rng.randint(14, 26), rng.randint(14, 24)
    services = ["checkout", "billing"][: rng.choice([1, 1, 2])]
    for name in services:
        world.service(name, **({"paths": ["lib/*"]} if name == "billing" else {}))
    for i in range(commits):
        near = world.sha(f"c{rng.randint(max(0, i - 4), max(0, i - 1))}")
        message = f"Work {i}"
        if rng.random() < 0.12:
            message += f"\n\nThis reverts commit {near[: rng.choice([40, 40, 40, 10])]}."
        if rng.random() < 0.06:
            message += f"\n(cherry picked from commit {near})"
        if rng.random() < 0.05:
            message += f"\nReverts #{rng.randint(1, 4)}"
        parents = {i - 1} if rng.random() < 0.7 else set(rng.sample(range(max(0, i - 4), i), min(i, 2)))
        extra: dict[str, Any] = {"patch_id": f"p{i // 3}"} if rng.random() < 0.2 else {}
        if rng.random() < 0.3:
            extra["files"] = [rng.choice(["lib/a", "app/b"])]
        world.commit(f"c{i}", i + rng.random(), *(f"c{p}" for p in parents if i), message=message, **extra)
    for number in range(1, rng.randint(1, 5)):
        merged = rng.randrange(commits)
        originals = [world.sha(f"c{max(0, merged - rng.randrange(4))}") for _ in range(rng.randint(0, 3))]
        world.pull_request(
            number, created=merged - 1, merged=merged, merge_commit_sha=world.sha(f"c{merged}"), commits=originals
        )
    for k in range(deployments):
        commit = min(commits - 1, k * commits // deployments)
        if rng.random() < 0.2:
            commit = rng.randint(max(0, commit - 4), commit)
        world.deploy(
            f"d{k}",
            f"c{commit}" if rng.random() < 0.93 else "nobody's",
            4 * k + 3 * rng.random(),
            started=4 * k - rng.choice([0, 0, 0.5, 3]),
            status=rng.choice(["success"] * 8 + ["failure", "cancelled"]),
            service=rng.choice(services),
            labels=["hotfix"] if rng.random() < 0.1 else None,
        )
    for k in range(rng.randint(0, 5)):
        impact = rng.random() * 4 * deployments
        said: dict[str, Any] = {"mitigated": impact + rng.choice([1, 5, 30])} if rng.random() < 0.8 else {}
        if rng.random() < 0.3:
            said["deployment_id"] = f"d{rng.randrange(deployments + 2)}"
        if rng.random() < 0.2:
            said["fixed_by_deployment_id"] = f"d{rng.randrange(deployments)}"
        if rng.random() < 0.1:
            said["labels"] = [f"pr:{rng.randint(1, 4)}"]
        if rng.random() < 0.2:
            said["dedupe_key"] = "both"
        world.incident(f"i{k}", impact, service=rng.choice(services), **said)
    practised(world, rng, 4.0 * deployments)
    return 4.0 * deployments


def practised(world: World, rng: random.Random, hours: float) -> None:
    """Tell a world of runs with attempts of a few shas, their jobs on two runners, and of an error budget, perhaps."""
    for k in range(rng.randint(3, 7)):
        commit = f"c{rng.randrange(3)}"
        begun = rng.random() * hours
        repository = rng.choice([SHOP, SHOP, SHOP.upper(), "acme/unknown"])
        for attempt in range(1, rng.choice([1, 1, 2, 3]) + 1):
            begun += rng.random() * 3
            spent = [None if rng.random() < 0.1 else begun + n * rng.random() * 6 for n in (1, 2)]
            world.pipeline_run(
                f"r{k}",
                None if spent[1] is None else rng.choice(["success", "failure", "timed_out", "cancelled"]),
                begun,
                attempt=attempt,
                commit=commit if rng.random() < 0.9 else "c0",
                workflow=rng.choice(["ci.yml", "ci.yml", "nightly.yml"]),
                repository=repository,
                started_at=None if spent[0] is None else stamp(spent[0]),
                completed_at=None if spent[1] is None else stamp(spent[1]),
            )
            for job in range(rng.randrange(3)):
                runner = rng.choice([None, "one", "two"])
                world.job(
                    f"r{k}",
                    f"j{k}-{attempt}-{job}",
                    (begun, *spent),
                    attempt=attempt,
                    runner=runner,
                    repository=repository,
                )
    for k in range(rng.choice([0, 0, 6])):
        at = stamp(rng.random() * hours)
        left = rng.randint(0, 8) / 8
        world.add("slo_samples", service="checkout", slo="up", at=at, error_budget_remaining=left - k / 64)


def told_by_days(world: World, rng: random.Random, hours: float, days: int) -> list[Records]:
    """A past told day by day; some of it comes late or early, and in versions, an older one perhaps after a newer."""
    told: list[Records] = [{entity: [] for entity in world.records} for _ in range(days)]
    for entity, records in world.records.items():
        for record in records:
            happened = datetime.fromisoformat(record[ENTITIES[entity].occurred_at or ""])
            day = max(0, min(days - 1, int((happened - world.base).total_seconds() / 3600 / hours * days)))
            if rng.random() < 0.03:
                day = rng.randrange(days)
            told[day][entity].append({**record, "updated_at": "2026-02-01T00:00:00Z"})
            if rng.random() < (0.4 if entity in ("pipeline_runs", "pipeline_jobs") else 0.15):
                older = {**earlier_version(entity, record, rng), "updated_at": "2026-01-31T00:00:00Z"}
                told[min(days - 1, day + rng.randrange(2))][entity].append(older)
    return told


def earlier_version(entity: str, record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """What a record may have said before it was corrected."""
    other = dict(record)
    if entity == "deployments":
        other["status"] = rng.choice(["failure", "in_progress", "success"])
        other["environment"] = rng.choice(["production", "production", "staging"])
        if rng.random() < 0.5:
            other.pop("finished_at", None)
    elif entity == "incidents":
        for name in ("mitigated_at", "resolved_at", "deployment_id"):
            if rng.random() < 0.5:
                other.pop(name, None)
    elif entity in ("pipeline_runs", "pipeline_jobs"):
        other |= {"status": "in_progress", "conclusion": None}
        if rng.random() < 0.5:
            other.pop("completed_at", None)
        if entity == "pipeline_runs" and rng.random() < 0.3:
            other["head_sha"] = sha_of("c1")
        elif entity == "pipeline_jobs":
            other["runner"] = "three"
    elif entity == "slo_samples":
        other["error_budget_remaining"] = 0.5
    elif entity == "commits":
        if rng.random() < 0.5:
            other["parents"] = []
        other["message"] = "Before it was amended"
    elif entity == "pull_requests":
        other["merge_commit_sha"] = None
        other["labels"] = ["hotfix"]
    return other


def test_days_of_late_and_corrected_records_make_what_a_build_of_everything_makes(
    new_world: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    continued = derived = 0
    for seed in SEEDS:
        rng = random.Random(seed)
        # Of a past this short a window may hold but a few deployments.
        monkeypatch.setattr(update, "SLACKS", (rng.randint(1, 3), 5))
        world = new_world()
        hours = lively(world, rng)
        daily = Daily(world)
        days = 5
        for number, records in enumerate(told_by_days(world, rng, hours, days), start=1):
            now = world.base + timedelta(hours=hours * number / days + rng.choice([0, 0, 2, -1]))
            summary = daily.update(records, now.isoformat())
            assert (summary.whole is None) == (number > 1)
            continued, derived = continued + summary.continued, derived + summary.derived
        daily.check()
    # Both ways were taken.
    assert continued
    assert derived


@pytest.fixture
def shop(world: World) -> Daily:
    """One service with a past of a day."""
    world.service("checkout")
    world.service("billing", repository="acme/billing")
    world.seed()
    world.commit("c1", 1, "c0")
    world.deploy("d1", "c1", 5)
    daily = Daily(world)
    records, world.records = world.records, {entity: [] for entity in world.records}
    daily.update(records)
    return daily


def more(daily: Daily) -> Records:
    """The records of another day."""
    records, daily.world.records = daily.world.records, {entity: [] for entity in daily.world.records}
    return records


def test_a_day_without_records_updates_and_changes_nothing(shop: Daily) -> None:
    before = rows_of(shop.settings.lake_dir)
    assert shop.update({}).whole is None
    assert rows_of(shop.settings.lake_dir) == before


def test_files_of_quarters_that_nothing_touches_are_not_written_again(shop: Daily) -> None:
    shop.world.commit("c2", 2200, "c1")
    shop.world.deploy("d2", "c2", 2201)
    old = [*shop.settings.lake_dir.glob("*/quarter=2026-Q1/*.parquet")]
    written = {path: path.stat().st_ino for path in old if path.parts[-3] in ("commits", "deployments", "change_lead")}
    assert shop.update(more(shop)).whole is None
    assert written
    assert {path: path.stat().st_ino for path in written} == written
    shop.check()


def test_a_status_that_nobody_knows_is_shown_from_the_day_on_that_says_it(shop: Daily) -> None:
    for day, status in enumerate(("sucess", None, "success"), start=1):
        if status:
            shop.world.deploy("d2", "c1", 11, status=status, updated_at=f"2026-02-0{day}T00:00:00Z")
        assert shop.update(more(shop)).whole is None
        assert len(rows_of(shop.settings.lake_dir).get("quarantine", ())) == (day < 3)
    shop.check()


def test_an_open_failure_is_not_written_again_because_the_cut_off_has_moved(shop: Daily) -> None:
    shop.world.incident("i1", 6)
    shop.update(more(shop), "2026-04-11T00:00:00Z")
    opened = [row for row in rows_of(shop.settings.lake_dir)["service_deployments"] if "('recovery_open', True)" in row]
    assert len(opened) == 1
    written = [path.stat().st_ino for path in shop.settings.lake_dir.glob("service_deployments/*/*.parquet")]
    assert shop.update({}, "2026-04-12T00:00:00Z").whole is None
    assert [path.stat().st_ino for path in shop.settings.lake_dir.glob("service_deployments/*/*.parquet")] == written
    shop.check()


@pytest.mark.parametrize("remedy", ["rollback", "revert", "hotfix"])
def test_a_window_reaches_back_to_what_its_deployments_speak_of(
    remedy: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.service("checkout")
    world.seed()
    for k in range(1, 8):
        message = f"This reverts commit {world.sha('c3')}." if remedy == "revert" and k == 6 else f"Work {k}"
        world.commit(f"c{k}", k, f"c{k - 1}", message=message)
    for k in range(1, 7):
        labels = ["hotfix"] if remedy == "hotfix" and k == 5 else None
        world.deploy(f"d{k}", "c3" if remedy == "rollback" and k == 5 else f"c{k}", 10 * k, labels=labels)
    daily = Daily(world)
    daily.update(more(daily))
    world.deploy("d7", "c7", 70)
    monkeypatch.setattr(update, "SLACKS", (2,))
    summary = daily.update(more(daily))
    assert (summary.continued, summary.derived) == (1, 0)
    daily.check()


def test_an_artifact_that_is_recorded_later_says_whose_deployment_it_was_and_of_what(shop: Daily) -> None:
    world = shop.world
    artifact = {"digest": world.digest("bytes"), "name": "payments-image"}
    world.commit("b0", -200, repository="acme/billing")
    world.deploy("b0", "b0", -199, repository="acme/billing")
    world.commit("b1", 6, "b0", repository="acme/billing")
    for number in (1, 2):
        world.deploy(f"g{number}", f"g{number}", 10 * number, repository="acme/gitops", digest="bytes")
    shop.update(more(shop))
    told = (("billing", "b0", "04"), ("billing", "b1", "05"), ("shop", "c1", "06"))
    for repository, commit, day in told:
        sha, at = world.sha(commit), f"2026-03-{day}T00:00:00Z"
        world.add("artifacts", **artifact, repository=f"acme/{repository}", sha=sha, updated_at=at)
        assert shop.update(more(shop)).whole is None
        shop.check()
    keys = {row for row in rows_of(shop.settings.lake_dir)["service_deployments"] if "acme/gitops" in row}
    assert len(keys) == 2
    assert all("('service', 'checkout')" in row for row in keys)


def test_a_deployment_whose_success_comes_to_pass_or_that_was_none_of_production_is_derived_again(shop: Daily) -> None:
    world = shop.world
    world.commit("c2", 6, "c1")
    world.deploy("d2", "c2", None, created=8, statuses=[("in_progress", 8), ("success", 20)])
    shop.update(more(shop), world.stamp(10))
    shop.update({}, world.stamp(30))
    assert outcomes(shop, "d2") == [("success",)]
    shop.check()
    world.deploy("d1", "c1", 5, environment="staging", updated_at=world.stamp(25))
    assert shop.update(more(shop), world.stamp(30)).whole is None
    assert not outcomes(shop, "d1")
    shop.check()


def outcomes(daily: Daily, key: str) -> list[tuple[str]]:
    """The outcome of each deployment with a key."""
    pattern = daily.settings.lake_dir / "service_deployments" / "*" / "*.parquet"
    return duckdb.sql(f"SELECT outcome FROM read_parquet('{pattern}') WHERE deployment_key = '{key}'").fetchall()


def test_deployments_by_runs_tags_and_releases_are_continued_too(world: World) -> None:
    world.service("runs", repository="acme/runs", deploys={"workflow": "deploy.yml", "job": "ship"})
    world.service("tags", repository="acme/tags", deploys={"tags": "v*"})
    world.service("releases", repository="acme/releases", deploys={"releases": True})
    daily = Daily(world)

    def ship(number: int, conclusion: str = "success", tagged: bool = True) -> None:
        for name in ("runs", "tags", "releases"):
            parents = [f"{name}{number - 1}"] if number else []
            world.commit(f"{name}{number}", 10 * number, *parents, repository=f"acme/{name}")
        run = {"repository": "acme/runs", "workflow": "deploy.yml", "commit": f"runs{number}"}
        world.pipeline_run(f"r{number}", "success", 10 * number + 1, **run)
        times = (None, 10 * number + 2, 10 * number + 3)
        world.job(f"r{number}", f"j{number}", times, repository="acme/runs", name="ship", conclusion=conclusion)
        if tagged:
            tag(number)

    def tag(number: int) -> None:
        for name in ("tags", "releases"):
            world.add("tags", repository=f"acme/{name}", name=f"v{number}", sha=world.sha(f"{name}{number}"))
        at = world.stamp(10 * number + 5)
        world.add("releases", repository="acme/releases", tag=f"v{number}", published_at=at)

    for number in range(4):
        ship(number)
    daily.update(more(daily))
    ship(4, conclusion="failure", tagged=False)
    daily.update(more(daily))
    daily.check()
    # A re-run, and tags of a commit that was told of before.
    run = {"repository": "acme/runs", "workflow": "deploy.yml", "commit": "runs4", "attempt": 2}
    world.pipeline_run("r4", "success", 47, **run)
    world.job("r4", "j5", (None, 48, 49), repository="acme/runs", name="ship", attempt=2)
    tag(4)
    summary = daily.update(more(daily))
    assert summary.continued + summary.derived == 3
    assert (summary.tables["service_deployments"], summary.tables["attempt_inputs"]) == (15, 15)
    daily.check()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda daily: daily.world.set(time_zone="Europe/Berlin"), "settings not as before"),
        (lambda daily: daily.world.service("new", repository="acme/new"), "catalog not as before"),
        (
            lambda daily: shutil.rmtree(daily.settings.lake_dir / "change_lead"),
            "the table change_lead is not as it was",
        ),
        (lambda daily: daily.world.set(now="2026-04-09T00:00:00Z"), "the cut-off is earlier than before"),
    ],
)
def test_what_an_update_cannot_know_makes_everything_anew(
    shop: Daily, change: Callable[[Daily], None], reason: str
) -> None:
    shop.world.commit("c2", 10, "c1")
    shop.world.deploy("d2", "c2", 11)
    shop.update(more(shop))
    change(shop)
    assert shop.update({}).whole == reason
    shop.check()


def test_items_that_were_judged_anew_make_everything_anew(shop: Daily) -> None:
    with duckdb.connect(str(shop.settings.landing_dir / "drops.duckdb")) as con:
        con.execute("DELETE FROM items WHERE entity = 'deployments'")
    assert shop.update({}).whole == "landed items are not as they were"


def test_a_build_that_was_killed_lets_the_next_one_make_everything_anew(
    shop: Daily, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.world.commit("c2", 10, "c1")
    shop.world.deploy("d2", "c2", 11)
    with monkeypatch.context() as killed:
        killed.setattr(building, "_unmapped", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            shop.update(more(shop))
    assert shop.update({}).whole == "no build has been completed before"
    shop.check()


def deployed(daily: Daily) -> tuple[int, bytes]:
    """The deployments that the published frequency counts, and the published file."""
    with duckdb.connect(str(daily.settings.published_path), read_only=True) as con:
        ((count,),) = con.execute(
            "SELECT numerator FROM metric_values WHERE metric = 'deployment_frequency' AND name = 'checkout' "
            "AND quarter = '2026-Q1'"
        ).fetchall()
    return int(count), daily.settings.published_path.read_bytes()


def test_what_a_build_leaves_that_failed_between_its_tables_is_neither_verified_nor_measured(
    shop: Daily, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(shop.settings)
    count, published = deployed(shop)
    before = len(rows_of(shop.settings.lake_dir)["service_deployments"])
    for number in (2, 3):
        shop.world.commit(f"c{number}", 10 * number, f"c{number - 1}")
        shop.world.deploy(f"d{number}", f"c{number}", 10 * number + 1)
    with monkeypatch.context() as failing:
        failing.setattr(building, "practice_facts", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            shop.update(more(shop))
    left = rows_of(shop.settings.lake_dir)
    assert len(left["service_deployments"]) == before + 2  # which the tables of practices do not know of
    for stage in (verify, measure):
        with pytest.raises(LakeError, match=r"the last build has not come to its end.*\n.*`quarterdeck build`"):
            stage(shop.settings)
    assert rows_of(shop.settings.lake_dir) == left
    assert deployed(shop) == (count, published)
    assert shop.update({}).whole == "no build has been completed before"
    verify(shop.settings)
    measure(shop.settings)
    assert deployed(shop)[0] == count + 2


def test_what_a_verification_leaves_that_failed_between_its_tables_is_not_measured(
    shop: Daily, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(shop.settings)
    measure(shop.settings)
    _, published = deployed(shop)
    write_table = verifying.write_table

    def fail(con: duckdb.DuckDBPyConnection, settings: Settings, name: str, query: str) -> int:
        if name == "findings":
            raise OSError("no space left")
        return write_table(con, settings, name, query)

    with monkeypatch.context() as failing:
        failing.setattr(verifying, "write_table", fail)
        with pytest.raises(OSError, match="no space left"):
            verify(shop.settings)
    # A build ends what it began itself.
    build(shop.settings)
    with pytest.raises(LakeError, match=r"the last verify has not come to its end.*\n.*`quarterdeck verify`"):
        measure(shop.settings)
    assert deployed(shop)[1] == published
    verify(shop.settings)
    measure(shop.settings)


def test_an_update_in_an_object_store_makes_what_one_in_a_folder_makes(
    new_world: Callable[[], World], s3: s3fs.S3FileSystem, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE_KEY", KEY)
    monkeypatch.setenv("LAKE_SECRET", SECRET)
    s3.mkdir("updated")
    options = {"endpoint_url": s3_endpoint, "key": "${LAKE_KEY}", "secret": "${LAKE_SECRET}"}
    found = []
    for storage in ("./data", {"path": "./data", "lake": "s3://updated/lake", "options": options}):
        world = new_world()
        # Two queries at a time, as where there are cores for them.
        world.set(storage=storage, engine={"threads": 2})
        rng = random.Random(7)
        daily = Daily(world)
        hours = lively(world, rng)
        for day, records in enumerate(told_by_days(world, rng, hours, 2), start=1):
            summary = daily.update(records)
            assert (summary.whole is None) == (day > 1)
        with connect(daily.settings) as con:
            found.append(
                {
                    name: sorted(map(repr, con.execute(f"FROM {lake_relation(daily.settings, name)}").fetchall()))
                    for name in TABLES
                    if name not in (*OWN, "build_inputs")
                }
            )
    assert found[0] == found[1]
    assert found[0]["service_deployments"]


def test_full_is_obeyed(shop: Daily) -> None:
    assert build(shop.settings, full=True).whole == "asked for"
    assert build(shop.settings).whole is None
