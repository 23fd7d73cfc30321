"""The commit graph: reach, ancestry and hostile shapes."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from analytics.delivery.history import CommitFacts, History

AT = datetime(2026, 1, 1)


def commit(sha: str, *parents: str, patch_id: str | None = None) -> CommitFacts:
    return CommitFacts(sha, parents, "ann", False, AT, patch_id)


@st.composite
def graphs(draw: st.DrawFn) -> list[CommitFacts]:
    """Random histories: every commit has up to three parents among the earlier ones."""
    size = draw(st.integers(1, 25))
    commits = []
    for number in range(size):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        commits.append(commit(f"{number:02d}", *(f"{parent:02d}" for parent in parents)))
    return commits


def ancestors(commits: list[CommitFacts], sha: str) -> set[str]:
    by_sha = {c.sha: c for c in commits}
    found: set[str] = set()
    waiting = list(by_sha[sha].parents)
    while waiting:
        name = waiting.pop()
        if name in by_sha and name not in found:
            found.add(name)
            waiting += by_sha[name].parents
    return found


@given(graphs())
def test_is_before_agrees_with_walking_every_ancestor(commits: list[CommitFacts]) -> None:
    history = History(commits)
    for older in commits:
        for newer in commits:
            answer = history.is_before(history.index[older.sha], history.index[newer.sha])
            assert answer == (older.sha in ancestors(commits, newer.sha))


@given(graphs(), st.data())
def test_reach_new_gives_each_commit_once_over_any_sequence_of_starts(
    commits: list[CommitFacts], data: st.DataObject
) -> None:
    history = History(commits)
    seen = bytearray(len(history))
    reached: set[str] = set()
    for start in data.draw(st.lists(st.sampled_from([c.sha for c in commits]), max_size=8)):
        found = {history.commits[number].sha for number in history.reach_new(history.index[start], seen)}
        assert not found & reached
        reached |= found
        assert reached >= {start} | ancestors(commits, start)


def test_parents_outside_the_known_history_are_its_edge() -> None:
    history = History([commit("b", "a"), commit("c", "b")])
    assert history.find("a") is None
    assert len(history.reach_new(history.index["c"], bytearray(2))) == 2


def test_a_cycle_of_parents_ends_every_walk() -> None:
    history = History([commit("a", "c"), commit("b", "a"), commit("c", "b"), commit("d", "c")])
    assert len(history.reach_new(history.index["d"], bytearray(4))) == 4
    assert history.is_before(history.index["a"], history.index["d"])
    assert not history.is_before(history.index["d"], history.index["a"])


def test_an_abbreviated_sha_names_a_commit_only_when_it_is_unique() -> None:
    history = History([commit("aaaa111122"), commit("aaaa111133"), commit("bbbb222244")])
    assert history.starting_with("bbbb222") == "bbbb222244"
    assert history.starting_with("aaaa111") is None
    assert history.starting_with("cccc000") is None


def test_commits_with_one_patch_are_found_together() -> None:
    history = History([commit("a", patch_id="p"), commit("b", patch_id="p"), commit("c")])
    assert {history.commits[number].sha for number in history.with_patch("p")} == {"a", "b"}
