from __future__ import annotations

import pytest

from analytics.sample.changes import Change
from analytics.sample.organisation import MergeStyle
from analytics.sample.repository import Repository
from analytics.sample.timeline import DAY, HOUR, utc

NOW = 100 * DAY


def repository(style: MergeStyle) -> Repository:
    made = Repository(1, "acme/shop", style, NOW)
    made.begin("heron-ab", DAY, ["README.md"])
    return made


def change(*authored: int, branch: str | None = "topic", body: str = "") -> Change:
    files = [[f"src/{index}.py"] for index in range(len(authored))]
    merged = authored[-1] + 5 * HOUR
    return Change("shop", "otter-cd", "Add slots", branch, list(authored), files, authored[-1] + 60, merged, body=body)


def merged(style: MergeStyle, *authored: int) -> tuple[Repository, Change]:
    made, one = repository(style), change(*authored)
    made.open(one)
    assert one.merged is not None
    made.merge(one, one.merged)
    return made, one


def test_a_squash_leaves_one_commit_with_the_merge_s_time_and_all_files() -> None:
    made, one = merged("squash", 2 * DAY, 3 * DAY)
    head = made.commits[made.head.sha]
    assert head.parents == [made.trunk[0].sha]
    assert head.authored_at == utc(one.merged or 0)
    assert head.files == ["src/0.py", "src/1.py"]
    originals = made.originals(one.number)
    assert head.sha not in originals
    assert [made.commits[sha].authored_at for sha in originals] == [utc(2 * DAY), utc(3 * DAY)]


def test_the_squash_of_one_commit_has_its_patch() -> None:
    made, one = merged("squash", 2 * DAY)
    assert made.commits[made.head.sha].patch_id == made.commits[made.originals(one.number)[0]].patch_id


def test_the_squash_of_two_commits_has_a_patch_of_its_own() -> None:
    made, one = merged("squash", 2 * DAY, 3 * DAY)
    assert made.commits[made.head.sha].patch_id not in {
        made.commits[sha].patch_id for sha in made.originals(one.number)
    }


def test_a_merge_reaches_the_originals() -> None:
    made, one = merged("merge", 2 * DAY, 3 * DAY)
    head = made.commits[made.head.sha]
    assert head.parents == [made.trunk[0].sha, made.originals(one.number)[-1]]
    assert head.patch_id is None


def test_a_rebase_copies_every_commit_and_keeps_author_date_and_patch() -> None:
    made, one = merged("rebase", 2 * DAY, 3 * DAY)
    second = made.commits[made.head.sha]
    first = made.commits[second.parents[0]]
    assert first.parents == [made.trunk[0].sha]
    originals = [made.commits[sha] for sha in made.originals(one.number)]
    assert [first.patch_id, second.patch_id] == [commit.patch_id for commit in originals]
    assert [first.authored_at, second.authored_at] == [utc(2 * DAY), utc(3 * DAY)]
    assert {first.sha, second.sha}.isdisjoint(commit.sha for commit in originals)


def test_a_direct_push_needs_no_pull_request() -> None:
    made = repository("squash")
    made.merge(change(2 * DAY, branch=None), 2 * DAY + 60)
    assert made.commits[made.head.sha].authored_at == utc(2 * DAY)
    assert made.pull_request_records() == []


def test_a_pick_keeps_patch_and_author_date_and_names_its_source() -> None:
    made, one = merged("merge", 2 * DAY)
    source = made.commits[made.originals(one.number)[0]]
    picked = made.commits[made.pick(source.sha, made.trunk[0].sha, 4 * DAY, "hotfix/1", "otter-cd")]
    assert picked.parents == [made.trunk[0].sha]
    assert (picked.patch_id, picked.authored_at) == (source.patch_id, source.authored_at)
    assert picked.committed_at == utc(4 * DAY)
    assert f"(cherry picked from commit {source.sha})" in (picked.message or "")


@pytest.mark.parametrize("tail", [".", ", reversing\nchanges made to 123."])
def test_a_revert_is_known_by_its_message(tail: str) -> None:
    made = repository("squash")
    one = change(2 * DAY, body=f"This reverts commit {'a' * 40}{tail}")
    made.open(one)
    assert made.merge(one, 3 * DAY).reverts == "a" * 40


def test_what_has_not_happened_by_now_is_not_told() -> None:
    made = Repository(1, "acme/shop", "squash", 3 * DAY)
    made.begin("heron-ab", DAY, ["README.md"])
    made.open(change(2 * DAY))
    late = change(2 * DAY, 4 * DAY)
    late.opened = 2 * DAY + 60
    made.open(late)
    first, second = made.pull_request_records()
    assert first.merged_at is not None
    assert second.merged_at is None
    assert len(second.commits or []) == 1
