"""Links to commits and pull requests: only into hosts that the settings name, and only for repositories of theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.sources import SourceLinks
from tests.unit.reports.published_world import settings_of

SHA = "a" * 40
GITHUB = {
    "name": "hub",
    "type": "github",
    "organization": "acme",
    "token": "${T}",
    "base_url": "https://api.github.com",
}
SERVER = {**GITHUB, "name": "ghe", "organization": "inner", "base_url": "https://ghe.example.com/api/v3"}
GITLAB = {"name": "lab", "type": "gitlab", "group": "till", "token": "${T}", "base_url": "https://gitlab.example.com"}
LISTED = {**GITHUB, "name": "listed", "organization": None, "repositories": ["other/Shop"]}


@pytest.fixture
def links(tmp_path: Path) -> SourceLinks:
    return SourceLinks(settings_of(tmp_path, sources=[GITHUB, SERVER, GITLAB, LISTED]))


@pytest.mark.parametrize(
    ("repository", "commit", "request_page"),
    [
        ("acme/shop", f"https://github.com/acme/shop/commit/{SHA}", "https://github.com/acme/shop/pull/7"),
        ("other/shop", f"https://github.com/other/shop/commit/{SHA}", "https://github.com/other/shop/pull/7"),
        (
            "inner/shop",
            f"https://ghe.example.com/inner/shop/commit/{SHA}",
            "https://ghe.example.com/inner/shop/pull/7",
        ),
        (
            "till/sub/app",
            f"https://gitlab.example.com/till/sub/app/-/commit/{SHA}",
            "https://gitlab.example.com/till/sub/app/-/merge_requests/7",
        ),
    ],
)
def test_a_change_leads_to_its_page(links: SourceLinks, repository: str, commit: str, request_page: str) -> None:
    assert links.commit(repository, SHA) == commit
    assert links.pull_request(repository, 7) == request_page


@pytest.mark.parametrize("repository", ["nobody/shop", "acme", "acme/../../evil", "acme/x?y=z", "acme/<script>", ""])
def test_what_no_source_holds_gets_no_link(links: SourceLinks, repository: str) -> None:
    assert links.commit(repository, SHA) is None


def test_a_sha_that_is_none_gets_no_link(links: SourceLinks) -> None:
    assert links.commit("acme/shop", "javascript:alert(1)") is None
