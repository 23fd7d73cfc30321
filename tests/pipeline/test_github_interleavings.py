"""For any interleaving of what happens on GitHub, pulls, and pulls that break off, the tables equal the world."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import Repository, World

SECONDS = (0, 1, 59, 3600, 86_400, 40 * 86_400)
PEOPLE = ("ada", "grace", None)
# In parts, which several processes share.
EXAMPLES, PARTS = 200, 4
STATES = ("QUEUED", "IN_PROGRESS", "SUCCESS", "FAILURE")


def happen(world: World, chance: random.Random) -> None:
    """One thing that happens in one repository; nothing where there is nothing to happen to."""
    at = chance.choice(list(world.repositories.values()))
    things: list[Callable[[], object]] = [
        lambda: world.open_pull(at, chance.choice((1, 2, 130)), chance.choice(PEOPLE)),
        lambda: world.start_run(at, fork=chance.random() < 0.3),
        lambda: world.deploy(at, chance.choice(("production", "staging"))),
        lambda: world.open_issue(at, chance.choice((["incident"], ["question"], ["incident", "sev1"]))),
        lambda: world.release(at, f"v{world.new_id()}", draft=chance.random() < 0.3),
        lambda: world.push(at, chance.choice((1, 3, 130)), chance.choice(PEOPLE)),
        lambda: world.branch(at, f"b{world.new_id()}", chance.choice((1, 2, 110))),
        lambda: world.rename(at, f"name-{world.new_id()}"),
    ]
    things += _to_what_is_there(world, at, chance)
    chance.choice(things)()


def _to_what_is_there(world: World, at: Repository, chance: random.Random) -> list[Callable[[], object]]:
    things: list[Callable[[], object]] = []
    if at.head:
        things.append(lambda: world.tag(at, f"t{world.new_id()}", annotated=chance.random() < 0.5))
    if len(at.commits) > 2:
        things.append(lambda: world.rewrite(at, 2))
    if at.pulls:
        pull = chance.choice(at.pulls)
        things += [
            lambda: world.review(pull, chance.choice(("APPROVED", "COMMENTED")), chance.choice(PEOPLE)),
            lambda: world.edit_pull(pull, f"edited {world.new_id()}"),
            lambda: world.force_push(at, pull),
            lambda: world.merge(at, pull, squash=chance.random() < 0.5),
        ]
    if at.runs:
        run = chance.choice(at.runs)
        things += [lambda: world.proceed(run, chance.choice(("success", "failure")))] * 3
        if (world.now - run.created_at).days < 30:
            things.append(lambda: world.run_again(run))
    unsettled = [
        made for made in at.deployments if not {"SUCCESS", "FAILURE", "INACTIVE"} & {one[0] for one in made.statuses}
    ]
    if unsettled:
        deployment = chance.choice(unsettled)
        things += [lambda: world.set_status(at, deployment, chance.choice(STATES))] * 2
    if at.issues:
        issue = chance.choice(at.issues)
        things.append(lambda: world.close_issue(issue))
    if at.releases:
        newest = max(at.releases, key=lambda one: (one.created_at, one.id))
        things.append(lambda: world.upload(newest, "asset.tar.gz"))
    return things


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("happen"), st.integers(1, 8)),
        st.tuples(st.just("advance"), st.sampled_from(SECONDS)),
        st.tuples(st.just("pull"), st.just(0)),
        st.tuples(st.just("crash"), st.integers(0, 12)),
        st.tuples(st.just("pull while it moves"), st.just(0)),
    ),
    max_size=10,
)


def play(steps: list[tuple[str, int]], seed: int, without: str = "", **source: str) -> None:
    chance = random.Random(seed)
    world = World()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"QD_FAKE_TOKEN": TOKEN}),
        # A connection that breaks off is tried again after a while, which changes nothing here.
        mock.patch("urllib3.util.retry.time.sleep"),
    ):
        clone = Path(folder) / "clone.git"
        if source:
            subprocess.run(["git", "init", "--quiet", "--bare", str(clone)], check=True)
        for name in ("shop", "till"):
            world.repository(name, f"file://{clone}")
        with FakeGitHub(world) as fake:
            workspace_settings = workspace(Path(folder), fake, **source)
            for step, number in [*steps, ("advance", 120), ("pull", 0)]:
                if step == "happen":
                    for _ in range(number):
                        happen(world, chance)
                elif step == "advance":
                    world.advance(number)
                elif step == "pull":
                    assert pulled(workspace_settings).error is None
                    assert difference(world, landed(workspace_settings), without=without) == []
                elif step == "crash":
                    fake.answers_left = number
                    pulled(workspace_settings)
                    fake.answers_left = None
                else:
                    fake.on_request = lambda path: happen(world, chance)
                    pulled(workspace_settings)
                    fake.on_request = None


@pytest.mark.parametrize("part", range(PARTS))
@settings(max_examples=EXAMPLES // PARTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_the_tables_equal_the_world(part: int, steps: list[tuple[str, int]], seed: int) -> None:
    play(steps, seed * PARTS + part)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_the_tables_equal_the_world_beside_a_clone(steps: list[tuple[str, int]], seed: int) -> None:
    # The clone is an empty one: what git tells has tests of its own.
    play(steps, seed, without="commits tags", commits="git")
