"""Where a commit or a pull request can be looked at: links to the host that the settings name, and to no other."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from analytics.settings import GitHubSource, GitLabSource, Settings
from reports.links import safe_url

_SHA = re.compile(r"[0-9a-f]{7,64}")
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)+", re.ASCII)


class SourceLinks:
    """Links into the web pages of the hosts that a workspace reads; None where no source of it holds a repository."""

    def __init__(self, settings: Settings) -> None:
        self._sources = [one for one in settings.sources if isinstance(one, GitHubSource | GitLabSource)]

    def commit(self, repository: str, sha: str) -> str | None:
        """The page of a commit."""
        return self._page(repository, f"commit/{sha}") if _SHA.fullmatch(sha) else None

    def pull_request(self, repository: str, number: int) -> str | None:
        """The page of a pull request or merge request."""
        source = self._source(repository)
        return self._page(repository, f"{'pull' if isinstance(source, GitHubSource) else 'merge_requests'}/{number}")

    def _page(self, repository: str, rest: str) -> str | None:
        source = self._source(repository)
        if source is None:
            return None
        between = "" if isinstance(source, GitHubSource) else "-/"
        return safe_url(f"{_web(source)}/{quote(repository)}/{between}{rest}")

    def _source(self, repository: str) -> GitHubSource | GitLabSource | None:
        # A browser would go up by `..`, to another repository's page.
        if not _REPOSITORY.fullmatch(repository) or {".", ".."} & set(repository.split("/")):
            return None
        return next((source for source in self._sources if _holds(source, repository)), None)


def _holds(source: GitHubSource | GitLabSource, repository: str) -> bool:
    if isinstance(source, GitHubSource):
        listed, whole = source.repositories, source.organization
    else:
        listed, whole = source.projects, source.group
    name = repository.casefold()
    if listed:
        return name in {one.casefold() for one in listed}
    return whole is not None and name.startswith(f"{whole.casefold()}/")


def _web(source: GitHubSource | GitLabSource) -> str:
    """The host's pages: an API has its own address at GitHub."""
    parts = urlsplit(source.base_url)
    host = parts.netloc.removeprefix("api.") if isinstance(source, GitHubSource) else parts.netloc
    path = parts.path.removesuffix("/api/v3") if isinstance(source, GitHubSource) else parts.path
    return f"{parts.scheme}://{host}{path}".rstrip("/")
