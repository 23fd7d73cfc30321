"""Globs in which only * and ? are special."""

import pytest

from analytics.globs import name_matches, path_matches


@pytest.mark.parametrize(
    ("name", "glob", "matches"),
    [
        ("renovate[bot]", "*[bot]", True),
        ("renovateb", "*[bot]", False),
        ("hotfix/a/b", "hotfix/*", True),
        ("Hotfix: pay", "hotfix*", True),
        ("v1.2", "v?.?", True),
        ("v1x2", "v1.2", False),
        (None, "*", False),
    ],
)
def test_names(name: str | None, glob: str, matches: bool) -> None:
    assert name_matches(name, [glob]) is matches


@pytest.mark.parametrize(
    ("path", "glob", "matches"),
    [
        ("services/checkout/app.py", "services/checkout/**", True),
        ("services/checkout/a/b.py", "services/checkout/**", True),
        ("services/checkout2/a.py", "services/checkout/**", False),
        ("services/a/x.py", "services/*/x.py", True),
        ("services/a/b/x.py", "services/*/x.py", False),
        ("x.py", "**/x.py", True),
        ("a/b/x.py", "**/x.py", True),
        ("a[1].py", "a[1].py", True),
        ("a1.py", "a[1].py", False),
    ],
)
def test_paths(path: str, glob: str, matches: bool) -> None:
    assert path_matches(path, [glob]) is matches
