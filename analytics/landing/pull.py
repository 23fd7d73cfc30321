"""Stage pull: what is new in every configured source lands, each source in its own file, or in one per shard.

One source that fails stops no other; a pull that was ended goes on behind the last page that was landed. Shards of one
source may be pulled by processes side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

import duckdb

from analytics import progress
from analytics.errors import PausedError, QuarterdeckError, SourceError, UnreachableError, UsageError
from analytics.landing.cutting import cut_as_wanted, remove_left_over
from analytics.landing.pages import judge_page
from analytics.landing.providers import deploy_workflows, provider_of
from analytics.landing.reprocess import reprocess
from analytics.landing.retention import drop_old_bodies
from analytics.landing.shards import Shard, shard_number, shards_of, subject_of
from analytics.landing.store import Landed, LandingStore
from analytics.landing.wanted import wanted
from analytics.settings import Settings, Source
from analytics.sources.port import Collected, Cursor, Page, Provider, Refreshing

__all__ = ["PullResult", "provider_of", "pull", "reprocess"]

STAGE = "pull"
# Attempts first: their jobs are read afterwards.
_REFRESH_ORDER = ("commits", "pipeline_runs", "deployments", "pipeline_jobs", "attestations", "deployment_records")
# Entities of which a record that was never read is missing from the numbers.
_READ_ONCE = ("pipeline_jobs",)
# Entities of which one record leads to the next: a commit to its parents.
_READ_ON = ("commits",)
# After so many requests in a row without any answer, a source is left alone.
_SILENCES = 3
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
    # When the source may be asked again, where it asked for a pause; what is missing comes with the next pull.
    resume_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the source was read to its end."""
        return self.error is None


def pull(
    settings: Settings, only: Sequence[str] | None = None, shard: int | None = None, at_once: int | None = None
) -> list[PullResult]:
    """Pull every configured source, or those named by `only`, and say what came of each.

    With `shard` (from 1) that shard alone of the one source named, at its part of the pace that the source's credential
    may keep: `at_once` processes are taken to ask at the same time, as many as there are shards unless it is given. A
    source that fails says so in its result. Raises UsageError for a name or a shard that is not there, and SourceError
    when all sources were asked and every one failed.
    """
    names = [source.name for source in settings.sources]
    for name in only or ():
        if name not in names:
            known = ", ".join(names) or "none"
            raise UsageError(f"no source is named '{name}'", fix=f"Sources in the settings: {known}.")
    if not names:
        raise SourceError("no source is declared", where=str(settings.settings_path), fix="Add one under `sources`.")
    chosen = [source for source in settings.sources if only is None or source.name in only]
    if shard is not None:
        _check_shard(chosen, only, shard)
    results: list[PullResult] = []
    for number, source in enumerate(chosen, start=1):
        progress.report(STAGE, f"source {source.name}", number - 1, len(chosen))
        results.append(_pull_source(settings, source, shard, at_once))
        progress.report(STAGE, f"source {source.name}", number, len(chosen))
    if only is None and all(result.error is not None for result in results):
        said = "; ".join(f"{result.source}: {result.error}" for result in results)
        raise SourceError(f"no source could be pulled: {said}")
    return results


def _check_shard(chosen: Sequence[Source], only: Sequence[str] | None, shard: int) -> None:
    if only is None or len(chosen) != 1:
        raise UsageError("a shard is one of a source's", fix="Name one source with --source.")
    count = shards_of(chosen[0])
    if not 1 <= shard <= count:
        shards = f"{count} shards" if count > 1 else "1 shard"
        raise UsageError(
            f"the source '{chosen[0].name}' has {shards}, and no shard {shard}",
            fix="Give a number between 1 and `shards` of the source in the settings.",
        )


def _pull_source(settings: Settings, source: Source, shard: int | None, at_once: int | None) -> PullResult:
    count = shards_of(source)
    shards = [Shard(number, count) for number in range(1, count + 1) if shard in (None, number)]
    try:
        alone = shards[0] if shard is not None and count > 1 else None
        provider = provider_of(settings, source, at_once or (1 if shard is None else count), alone)
        discover = _once(provider.discover)
        with cut_as_wanted(settings, source):
            results = [_pull_shard(settings, source, provider, discover, one) for one in shards]
        remove_left_over(settings, source)
    except (QuarterdeckError, OSError, duckdb.Error) as error:
        return _failed(source, error)
    return _together(source, results)


def _once(discover: Callable[[], Collected]) -> Callable[[], Collected]:
    """One look for all shards of this process, when the first of them wants it; its failure is that of all."""
    seen: list[Collected | QuarterdeckError] = []

    def look() -> Collected:
        if not seen:
            try:
                seen.append(discover())
            except QuarterdeckError as error:
                seen.append(error)
        if isinstance(seen[0], QuarterdeckError):
            raise seen[0]
        return seen[0]

    return look


def _pull_shard(
    settings: Settings, source: Source, provider: Provider, discover: Callable[[], Collected], shard: Shard
) -> PullResult:
    try:
        with LandingStore.open(settings, source.name, shard=shard) as store:
            here = _of_shard(source, discover(), shard)
            result = _pull_provider(provider, here, store, source.type, deploy_workflows(settings, source))
            drop_old_bodies(store, settings, source.name)
            return result
    except (QuarterdeckError, OSError, duckdb.Error) as error:
        return _failed(source, error)


def _failed(source: Source, error: Exception) -> PullResult:
    _logger.error("source %s failed: %s", source.name, error)
    resume_at = error.resume_at if isinstance(error, PausedError) else None
    return PullResult(source.name, source.type, error=str(error), resume_at=resume_at)


def _of_shard(source: Source, collected: Collected, shard: Shard) -> Collected:
    """The requests of a shard's repositories; what is collected is collected, though no repository of it be here."""
    if shard.count == 1:
        return collected

    def is_here(key: str) -> bool:
        return shard_number(subject_of(source, key), shard.count) == shard.number

    return Collected(
        {entity: [key for key in keys if is_here(key)] for entity, keys in collected.requests.items()},
        {key: name for key, name in collected.names.items() if is_here(key)},
    )


def _together(source: Source, results: Sequence[PullResult]) -> PullResult:
    """What the shards of a source gave, as one; what several say is said once."""
    errors = dict.fromkeys(line for result in results if result.error for line in result.error.split("\n"))
    return PullResult(
        source.name,
        source.type,
        sum(result.items for result in results),
        sum(result.quarantined for result in results),
        sum(result.requests for result in results),
        "\n".join(errors) or None,
        max((result.resume_at for result in results if result.resume_at), default=None),
    )


@dataclass
class _Tally:
    items: int = 0
    quarantined: int = 0

    def add(self, landed: Landed) -> None:
        self.items += landed.items
        self.quarantined += landed.quarantined


class _Pulling:
    """One source being pulled: what landed so far, what failed, and whether the source asked for a pause."""

    def __init__(self, provider: Provider, store: LandingStore, names: Mapping[str, str]) -> None:
        self.provider = provider
        self.store = store
        self.names = names
        self.tally = _Tally()
        self.errors: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.pause: PausedError | None = None
        # How often in a row it did not answer; what is wrong with one repository is no reason to leave the others.
        self.silences = 0
        # The store has one connection; requests that are read side by side take turns with it.
        self.turn = Lock()

    def read(self, entity: str, key: str) -> None:
        """Land what is new of one request; its failure is noted and stops no other."""
        if self.is_over:
            self.failed.append((entity, key))
            return
        before = self.tally.items, self.tally.quarantined
        try:
            with self.turn:
                cursor = self.store.cursor(entity, key)
            if self.provider.capabilities().workers > 1:
                self.land(self.provider.changes(entity, key, cursor))
            else:
                self._read_ahead(entity, key, cursor)
            self.silences = 0
        except SourceError as error:
            self.failed.append((entity, key))
            self._note(f"{self.provider.name}: {key}", error)
        items, quarantined = self.tally.items - before[0], self.tally.quarantined - before[1]
        if items or quarantined:
            _logger.info("%s: %d items, %d refused", self.label(entity, key), items, quarantined)

    def label(self, entity: str, key: str) -> str:
        """What is being read, in words: a request's key may be an id."""
        return f"{self.provider.name}: {entity} of {self.names.get(key, key)}"

    @property
    def is_over(self) -> bool:
        """Whether asking the source for more is no use now."""
        return self.pause is not None or self.silences >= _SILENCES

    def land(self, pages: Iterator[Page]) -> None:
        """Land pages one by one."""
        for page in pages:
            judged = judge_page(page)
            with self.turn:
                self.tally.add(self.store.write(judged))

    def refresh(self, entity: str, first_workflows: Collection[str]) -> None:
        """Read again what is not settled yet, and what no list shows."""
        assert isinstance(self.provider, Refreshing)
        found = wanted(self.store.con, entity, self.store.now, first_workflows)
        if not found:
            return
        if not self.is_over:
            try:
                self.land(self.provider.refresh(entity, found))
                # What was found names more that was never seen, until it does not.
                while entity in _READ_ON and (more := wanted(self.store.con, entity, self.store.now)) and more != found:
                    found = more
                    self.land(self.provider.refresh(entity, found))
            except SourceError as error:
                self._note(f"{self.provider.name}: {entity}", error)
        if entity in _READ_ONCE:
            # What is still not read is missing: this pull's budget, or a pause, ended before it.
            left = wanted(self.store.con, entity, self.store.now)
            self.failed += sorted({(entity, want.request_key) for want in left})

    def _note(self, where: str, error: SourceError) -> None:
        if isinstance(error, PausedError):
            if self.pause is None:
                self.pause = error
                self.errors.append(str(error))
            return
        if isinstance(error, UnreachableError):
            self.silences += 1
            if self.silences > 1:
                self.errors[-1] = str(error)
                return
        # One bad repository or file of a source stops no other.
        _logger.error("%s: %s", where, error)
        self.errors.append(str(error))

    def _read_ahead(self, entity: str, key: str, cursor: Cursor | None) -> None:
        """While one page is written, the next is read and judged."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="landing") as writer:
            writing: Future[Landed] | None = None
            try:
                for page in self.provider.changes(entity, key, cursor):
                    judged = judge_page(page)
                    if writing is not None:
                        self.tally.add(writing.result())
                        progress.report(STAGE, f"{self.label(entity, key)}: {self.tally.items:,} items")
                    writing = writer.submit(self.store.write, judged)
            finally:
                if writing is not None:
                    self.tally.add(writing.result())


def _pull_provider(
    provider: Provider,
    collected: Collected,
    store: LandingStore,
    kind: str,
    first_workflows: Collection[str] = (),
) -> PullResult:
    requests = collected.requests
    store.offer(requests, collected.names)
    capabilities = provider.capabilities()
    pulling = _Pulling(provider, store, collected.names)
    # All entities of one request key together: side by side are repositories, not the lists of one repository.
    by_key: dict[str, list[str]] = {}
    for entity, keys in sorted(requests.items()):
        for key in keys:
            by_key.setdefault(key, []).append(entity)
    if capabilities.workers == 1:
        todo = [(entity, key) for entity, keys in sorted(requests.items()) for key in keys]
        for number, (entity, key) in enumerate(todo):
            progress.report(STAGE, pulling.label(entity, key), number, len(todo))
            pulling.read(entity, key)
    else:
        _side_by_side(pulling, by_key, capabilities.workers)
    for entity in _REFRESH_ORDER:
        if entity in capabilities.refresh:
            pulling.refresh(entity, first_workflows)
    store.finish(sorted(set(pulling.failed)))
    asked = sum(map(len, requests.values()))
    tally = pulling.tally
    progress.report(STAGE, f"{provider.name}: {tally.items:,} new items, {tally.quarantined:,} refused", asked, asked)
    return PullResult(
        provider.name,
        kind,
        tally.items,
        tally.quarantined,
        asked,
        "\n".join(pulling.errors) or None,
        pulling.pause.resume_at if pulling.pause else None,
    )


def _side_by_side(pulling: _Pulling, by_key: Mapping[str, Sequence[str]], workers: int) -> None:
    """Read several repositories at a time."""

    def read_all(key: str) -> None:
        for entity in by_key[key]:
            progress.report(STAGE, pulling.label(entity, key), done, len(by_key))
            pulling.read(entity, key)

    done = 0
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="pulling") as pool:
        reading = [pool.submit(read_all, key) for key in by_key]
        try:
            for future in reading:
                future.result()
                done += 1
        except BaseException:
            for future in reading:
                future.cancel()
            raise
