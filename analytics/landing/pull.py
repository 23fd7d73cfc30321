"""Stage pull: what is new in every configured source lands, each source in its own file.

One source that fails stops no other; a pull that was ended goes on behind the last page that was landed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import duckdb

from analytics import progress
from analytics.catalog import Catalog, load_catalog
from analytics.errors import QuarterdeckError, SourceError, UsageError
from analytics.landing.pages import judge_page
from analytics.landing.reprocess import reprocess
from analytics.landing.store import Landed, LandingStore
from analytics.settings import FilesSource, GitSource, Settings, Source
from analytics.sources.files import FilesProvider
from analytics.sources.port import Provider

__all__ = ["PullResult", "pull", "reprocess"]

STAGE = "pull"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PullResult:
    """What one source gave: new items, newly refused records, requests (files, repositories) asked, and its error."""

    source: str
    type: str
    items: int = 0
    quarantined: int = 0
    requests: int = 0
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the source was read to its end."""
        return self.error is None


def pull(settings: Settings, only: Sequence[str] | None = None) -> list[PullResult]:
    """Pull every configured source, or those named by `only`, and say what came of each.

    A source that fails says so in its result. Raises UsageError for a name that no source has, and SourceError when
    all sources were asked and every one failed.
    """
    names = [source.name for source in settings.sources]
    for name in only or ():
        if name not in names:
            known = ", ".join(names) or "none"
            raise UsageError(f"no source is named '{name}'", fix=f"Sources in the settings: {known}.")
    if not names:
        raise SourceError("no source is declared", where=str(settings.settings_path), fix="Add one under `sources`.")
    chosen = [source for source in settings.sources if only is None or source.name in only]
    results: list[PullResult] = []
    for number, source in enumerate(chosen, start=1):
        progress.report(STAGE, f"source {source.name}", number - 1, len(chosen))
        results.append(_pull_source(settings, source))
        progress.report(STAGE, f"source {source.name}", number, len(chosen))
    if only is None and all(result.error is not None for result in results):
        said = "; ".join(f"{result.source}: {result.error}" for result in results)
        raise SourceError(f"no source could be pulled: {said}")
    return results


def _pull_source(settings: Settings, source: Source) -> PullResult:
    try:
        provider = provider_of(settings, source)
        with LandingStore.open(settings, source.name) as store:
            return _pull_provider(provider, store, source.type)
    except (QuarterdeckError, OSError, duckdb.Error) as error:
        _logger.error("source %s failed: %s", source.name, error)
        return PullResult(source.name, source.type, error=str(error))


def provider_of(settings: Settings, source: Source) -> Provider:
    """The provider behind a configured source; raises SourceError for a type that this version does not pull."""
    if isinstance(source, FilesSource):
        return FilesProvider(source.name, source.path)
    if isinstance(source, GitSource):
        from analytics.sources.git import GitProvider

        catalog = load_catalog(settings.catalog if isinstance(settings.catalog, list) else [settings.catalog])
        return GitProvider(
            source.name,
            source.repositories,
            clones_dir=settings.storage / "clones" / source.name,
            watched_paths=_runbooks(source, catalog),
            path_filtered=_path_filtered(source, catalog),
        )
    raise SourceError(
        f"sources of type {source.type} are not pulled by this version",
        where=source.name,
        fix="Pull files and git; export the rest as feed files.",
    )


def _runbooks(source: GitSource, catalog: Catalog) -> dict[str, list[str]]:
    """The runbook paths of the services that live in each repository."""
    watched: dict[str, list[str]] = {}
    for repository in source.repositories:
        paths: set[str] = set()
        for service in catalog.of_repository(repository):
            paths.update(service.runbooks)
            if service.rollback.runbook:
                paths.add(service.rollback.runbook)
        if paths:
            watched[repository] = sorted(paths)
    return watched


def _path_filtered(source: GitSource, catalog: Catalog) -> list[str]:
    """The repositories of which a service owns only some paths, so that commits need their files."""
    return [
        repository
        for repository in source.repositories
        if any(service.paths for service in catalog.of_repository(repository))
    ]


@dataclass
class _Tally:
    items: int = 0
    quarantined: int = 0

    def add(self, landed: Landed) -> None:
        self.items += landed.items
        self.quarantined += landed.quarantined


def _pull_provider(provider: Provider, store: LandingStore, kind: str) -> PullResult:
    requests = provider.discover().requests
    store.offer(requests)
    todo = [(entity, key) for entity, keys in sorted(requests.items()) for key in keys]
    whole = _Tally()
    errors: list[str] = []
    failed: list[tuple[str, str]] = []
    for number, (entity, key) in enumerate(todo):
        progress.report(STAGE, f"{provider.name}: {key}", number, len(todo))
        tally = _Tally()
        try:
            _pull_request(provider, store, entity, key, tally)
        except SourceError as error:
            # One bad repository or file of a source stops no other.
            _logger.error("%s: %s: %s", provider.name, key, error)
            errors.append(str(error))
            failed.append((entity, key))
        if tally.items or tally.quarantined:
            _logger.info("%s: %s: %d items, %d refused", provider.name, key, tally.items, tally.quarantined)
        whole.items += tally.items
        whole.quarantined += tally.quarantined
    store.finish(failed)
    said = f"{provider.name}: {whole.items:,} new items, {whole.quarantined:,} refused"
    progress.report(STAGE, said, len(todo), len(todo))
    return PullResult(provider.name, kind, whole.items, whole.quarantined, len(todo), "\n".join(errors) or None)


def _pull_request(provider: Provider, store: LandingStore, entity: str, key: str, tally: _Tally) -> None:
    """Land the pages of one request; while one page is written, the next is read and judged."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="landing") as writer:
        writing: Future[Landed] | None = None
        try:
            for page in provider.changes(entity, key, store.cursor(entity, key)):
                judged = judge_page(page)
                if writing is not None:
                    tally.add(writing.result())
                    progress.report(STAGE, f"{provider.name}: {key}: {tally.items:,} items")
                writing = writer.submit(store.write, judged)
        finally:
            if writing is not None:
                tally.add(writing.result())
