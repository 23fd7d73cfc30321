"""Looks whether everything that a run needs is there, before a run does: one finding a line, each with its fix."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

import duckdb

from analytics.catalog import load_catalog
from analytics.errors import LakeError, PausedError, SettingsError, SourceError
from analytics.programs import BROWSER_FIX, PRINT_FIX, find_browser, missing_for_spark, missing_print_libraries
from analytics.settings import (
    EXECUTOR_MODULES,
    FilesSource,
    GitHubSource,
    GitLabSource,
    GitSource,
    JiraSource,
    PagerDutySource,
    PrometheusSource,
    Settings,
    Source,
    load_settings,
)
from analytics.sources.entities import ENTITIES

State = Literal["ok", "warn", "fail"]
REACH_SECONDS = 20
_LAKE_FIX = "Use a store that is consistent after each write, as S3 is, without a cache before it."


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it stands, and what to do unless it is ok."""

    subject: str
    state: State
    detail: str
    fix: str | None = None
    # Something that was written is wrong, as opposed to something that does not work.
    is_wording: bool = False


def examine(settings_path: Path) -> Iterator[Finding]:
    """Look at settings, catalog, sources, storage and programs; nothing is changed and nothing is raised."""
    try:
        settings = load_settings(settings_path)
    except SettingsError as error:
        yield Finding("settings", "fail", f"{error.where or settings_path}: {error.what}", error.fix, is_wording=True)
        yield from _programs(None)
        return
    yield Finding("settings", "ok", str(settings.settings_path))
    yield _catalog(settings)
    yield _time_zones(settings)
    if not settings.sources:
        yield Finding("sources", "fail", "no source is declared", "Add one under `sources` in the settings.")
    for source in settings.sources:
        yield _source(source)
    yield _supply_chain(settings)
    yield _storage(settings)
    lake = None if settings.lake_url is None else _lake(settings, settings.lake_url)
    if lake is not None:
        yield lake
    if lake is None or lake.state == "ok":
        yield from _unfinished(settings)
    yield from _landing(settings)
    yield _published(settings)
    if settings.engine.type == "spark":
        yield _spark(settings)
    if settings.executor.type != "in_process":
        yield _executor(settings)
    yield from _programs(settings)


def _catalog(settings: Settings) -> Finding:
    paths = settings.catalog if isinstance(settings.catalog, list) else [settings.catalog]
    try:
        catalog = load_catalog(paths)
    except SettingsError as error:
        return Finding("catalog", "fail", f"{error.where or paths[0]}: {error.what}", error.fix, is_wording=True)
    if not catalog.services:
        return Finding("catalog", "fail", "no service is declared", f"Add one to {paths[0]}.")
    without = sum(service.team is None for service in catalog.services)
    detail = f"services: {len(catalog.services)}"
    if without:
        return Finding(
            "catalog", "warn", f"{detail}, without a team: {without}", "Name their team to get team numbers."
        )
    return Finding("catalog", "ok", detail)


def _time_zones(settings: Settings) -> Finding:
    try:
        ZoneInfo("Europe/Berlin")
        ZoneInfo("America/New_York")
    except (OSError, KeyError):
        return Finding("time zones", "fail", "the time zone data is incomplete", "Install the package tzdata.")
    return Finding("time zones", "ok", f"quarters are cut in {settings.time_zone}")


def _supply_chain(settings: Settings) -> Finding:
    """Policies, waivers and roots can be read, and each glob names a file."""
    # Loads what verifies signatures.
    from analytics.supply_chain.gathering import files_of
    from analytics.supply_chain.judging import trusted_roots
    from analytics.supply_chain.rules import load_policies
    from analytics.supply_chain.waivers import load_waivers

    chain = settings.supply_chain
    try:
        roots = trusted_roots(chain.trusted_roots)
        load_policies(chain.policies)
        waivers = load_waivers(chain.waivers)
        empty = [
            glob
            for key, globs in (("bundles", chain.bundles), ("sboms", chain.sboms))
            for glob in globs
            if not files_of(settings, [glob], key)
        ]
    except SettingsError as error:
        fix = error.fix or "Correct it: nothing is verified before."
        detail = f"{error.where or settings.settings_path}: {error.what}"
        return Finding("supply chain", "fail", detail, fix, is_wording=True)
    names = ", ".join(root.name for root in roots)
    ended = sum(waiver.until < settings.calendar.local_day(settings.now()) for waiver in waivers)
    detail = f"trusted roots: {names}; policies: {chain.policies.name if chain.policies else 'built in'}"
    if chain.waivers:
        detail += f"; waivers: {len(waivers)}" + (f", {ended} of them ended" if ended else "")
    if empty:
        fix = "Correct supply_chain.bundles and supply_chain.sboms, or put files there."
        return Finding("supply chain", "warn", f"{detail}; no file matches {', '.join(empty)}", fix)
    return Finding("supply chain", "ok", detail)


def _source(source: Source) -> Finding:
    subject = f"source {source.name}"
    if isinstance(source, FilesSource):
        return _files_source(subject, source)
    if isinstance(source, GitSource):
        return _git_source(subject, source)
    if isinstance(source, GitLabSource):
        return _in_time(subject, source.base_url, lambda: _ask_gitlab(subject, source))
    if isinstance(source, JiraSource):
        return _in_time(subject, source.base_url, lambda: _ask_jira(subject, source))
    if isinstance(source, PagerDutySource):
        return _in_time(subject, source.base_url, lambda: _ask_pagerduty(subject, source))
    if isinstance(source, PrometheusSource):
        return _in_time(subject, source.base_url, lambda: _ask_prometheus(subject, source))
    return _in_time(subject, source.base_url, lambda: _ask_github(subject, source))


def _files_source(subject: str, source: FilesSource) -> Finding:
    try:
        entries = [entry.name for entry in source.path.iterdir()]
    except OSError as error:
        return Finding(subject, "fail", f"{source.path}: {error.strerror}", "Make the folder, or correct `path`.")
    names = {name.split(".", 1)[0] for name in entries}
    names |= {"gate_results" for name in entries if name.endswith((".sarif", ".sarif.json"))}
    entities = sorted(names & {*ENTITIES, "webhooks"})
    if not entities:
        return Finding(
            subject, "warn", f"{source.path} holds no feed file", "Put one there, such as deployments.jsonl."
        )
    return Finding(subject, "ok", ", ".join(entities))


def _git_source(subject: str, source: GitSource) -> Finding:
    if shutil.which("git") is None:
        return Finding(subject, "fail", "the program git is missing", "Install git.")
    bad = [name for name, location in source.repositories.items() if not _answers(location)]
    if bad:
        # A location may hold a password; the repository's name is enough to find it.
        return Finding(subject, "fail", f"no answer from {', '.join(bad)}", "Check the path or URL and your access.")
    return Finding(subject, "ok", f"repositories that answer: {len(source.repositories)}")


def _answers(location: str) -> bool:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
    try:
        done = subprocess.run(  # noqa: S603 - the location stands behind `--`
            ["git", "ls-remote", "--quiet", "--", location],  # noqa: S607 - git is looked up on purpose
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=REACH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _in_time(subject: str, base_url: str, ask: Callable[[], Finding]) -> Finding:
    return _within_reach(
        Finding(subject, "fail", f"{base_url}: no answer in {REACH_SECONDS} s", "Check the network."), ask
    )


def _within_reach(late: Finding, ask: Callable[[], Finding]) -> Finding:
    found: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    # A thread that nothing waits for: looking up a name cannot be given a time limit.
    threading.Thread(target=lambda: found.put(ask()), daemon=True).start()
    try:
        return found.get(timeout=REACH_SECONDS)
    except queue.Empty:
        return late


def _ask_github(subject: str, source: GitHubSource) -> Finding:
    # Imported here: PyGithub takes a third of a second, which only a GitHub source should wait for.
    from analytics.sources.github.client import GitHubClient, NotFoundError
    from analytics.sources.github.credentials import credential_of
    from analytics.sources.limits import Budget, RateLimitedError

    credential = credential_of(source)
    asks = f"{source.base_url} with {credential.reference}"
    client = GitHubClient(credential, source.base_url, Budget(max_wait_seconds=0), timeout_seconds=5, retries=0)
    try:
        try:
            left = _left_of_the_hour(json.loads(client.get("/rate_limit").body))
        except NotFoundError:
            left = "without a rate limit"  # so a GitHub Enterprise Server says
        readable = source.repositories or [f"organization {source.organization}"]
        for wanted in source.repositories[:3] or [source.organization or ""]:
            path = f"/repos/{wanted}" if source.repositories else f"/orgs/{wanted}"
            try:
                client.get(path)
            except NotFoundError:
                what = "repository" if source.repositories else "organization"
                return Finding(
                    subject, "fail", f"{asks}: {what} {wanted} is not there, or must not be read",
                    f"Check the name, and that {credential.reference} may read it.",
                )  # fmt: skip
    except RateLimitedError as error:
        return Finding(subject, "warn", f"{asks}: {error.what}", error.fix)
    except SourceError as error:
        return Finding(subject, "fail", f"{asks}: {error.what}", error.fix or "Check `base_url`.")
    more = f" and {len(readable) - 3} more not asked for" if len(readable) > 3 else ""
    return Finding(subject, "ok", f"{asks}: {left}; may read {', '.join(readable[:3])}{more}")


def _ask_gitlab(subject: str, source: GitLabSource) -> Finding:
    from analytics.sources.answers import NotThereError
    from analytics.sources.gitlab.client import GitLabClient
    from analytics.sources.limits import Budget

    asks = f"{source.base_url} with the token of {source.token.reference}"
    budget = Budget(max_wait_seconds=0, host="GitLab")
    client = GitLabClient(source.token, source.base_url, budget, timeout_seconds=5, retries=0)
    paths = [f"/projects/{quote(name, safe='')}" for name in source.projects[:3]]
    try:
        for path in paths or [f"/groups/{quote(source.group or '', safe='')}"]:
            try:
                client.get(path)
            except NotThereError:
                return Finding(
                    subject, "fail", f"{asks}: {unquote(path)} is not there, or must not be read",
                    f"Check the name, and that {source.token.reference} may read it.",
                )  # fmt: skip
    except PausedError as error:
        return Finding(subject, "warn", f"{asks}: {error.what}", error.fix)
    except SourceError as error:
        return Finding(subject, "fail", f"{asks}: {error.what}", error.fix or "Check `base_url`.")
    return Finding(subject, "ok", f"{asks} reads {', '.join(source.projects[:3]) or f'group {source.group}'}")


def _ask_jira(subject: str, source: JiraSource) -> Finding:
    from analytics.landing.providers import jira_rules
    from analytics.sources.jira.client import JiraClient
    from analytics.sources.limits import Budget

    asks = f"{source.base_url} with the token of {source.token.reference}"
    budget = Budget(max_wait_seconds=0, host="Jira")
    client = JiraClient(source.base_url, source.token, budget, source.email, timeout_seconds=5, retries=0)
    kinds = {"incidents": source.incidents, "changes": source.changes}

    def issues() -> str:
        named = jira_rules(source).named_fields()
        known = client.fields() if named else {}
        missing = [name for name in named if name.casefold() not in known]
        if missing:
            raise SourceError(
                f"Jira has no field named {', '.join(missing)}", fix="Write it as Jira shows it, or by its id."
            )
        found = {
            kind: client.search(given.jql, ["updated"], 1).issues for kind, given in kinds.items() if given is not None
        }
        none = [kind for kind, issues in found.items() if not issues]
        return f"finds no {' and no '.join(none)} so far" if none else f"finds {' and '.join(found)}"

    return _asked(subject, asks, issues)


def _ask_pagerduty(subject: str, source: PagerDutySource) -> Finding:
    from analytics.sources.limits import Budget
    from analytics.sources.pagerduty.client import PagerDutyClient

    asks = f"{source.base_url} with the token of {source.token.reference}"
    budget = Budget(max_wait_seconds=0, host="PagerDuty")
    client = PagerDutyClient(source.token, source.base_url, budget, timeout_seconds=5, retries=0)

    def incidents() -> str:
        found = client.get("/incidents", {"date_range": "all", "limit": 1, "total": "true"}).data
        return f"may read {found.get('total', 'its')} incidents"

    return _asked(subject, asks, incidents)


def _ask_prometheus(subject: str, source: PrometheusSource) -> Finding:
    from analytics.sources.limits import Budget
    from analytics.sources.prometheus.client import PrometheusClient

    asks = source.base_url + (f" with the token of {source.token.reference}" if source.token else "")
    client = PrometheusClient(
        source.base_url,
        Budget(max_wait_seconds=0, host="Prometheus"),
        source.token,
        source.user,
        source.tenant,
        timeout_seconds=5,
        retries=0,
    )

    def queries() -> str:
        found = {name: client.instant(slo.query) for name, slo in source.slos.items()}
        for name, series in found.items():
            if not series:
                raise SourceError(f"the query of {name} gives nothing now", fix="Try it in Prometheus itself.")
            label = source.slos[name].service_label
            if any(not isinstance(one.get("metric"), dict) or label not in one["metric"] for one in series):
                raise SourceError(
                    f"the query of {name} gives a series without the label {label}", fix="Set its `service_label`."
                )
        if source.alerts:
            client.instant(source.alerts.asked)
        return ", ".join(f"{name} of {len(series)} services" for name, series in found.items()) or "alerts can be asked"

    return _asked(subject, asks, queries)


def _asked(subject: str, asks: str, ask: Callable[[], str]) -> Finding:
    """What a small question to an API showed."""
    try:
        said = ask()
    except PausedError as error:
        return Finding(subject, "warn", f"{asks}: {error.what}", error.fix)
    except SourceError as error:
        return Finding(subject, "fail", f"{asks}: {error.what}", error.fix or "Check `base_url`.")
    return Finding(subject, "ok", f"{asks}: {said}")


def _left_of_the_hour(body: object) -> str:
    found: object = body
    for key in ("resources", "core"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return "without a rate limit"
    return f"{found.get('remaining')} of {found.get('limit')} requests left this hour"


def _storage(settings: Settings) -> Finding:
    folder = settings.storage
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        # In the nearest folder that exists: looking must not make the storage.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "storage", "fail", f"{settings.storage}: {error.strerror}", "Make it writable, or correct `storage`."
        )
    free = shutil.disk_usage(folder).free
    detail = f"{settings.storage}, {free / 1e9:.1f} GB free"
    if free < 1e9:
        return Finding("storage", "warn", detail, "Make room: a run needs a multiple of the feeds' size.")
    return Finding("storage", "ok", detail)


def _lake(settings: Settings, url: str) -> Finding:
    """Whether an object store lists, takes, gives and removes an object below the lake's URL; nothing stays of it."""
    from analytics.object_store import open_store

    late = Finding("lake", "fail", f"{url}: no answer in {REACH_SECONDS} s", "Check the network and `endpoint_url`.")
    name = f"doctor-{uuid.uuid4().hex}.txt"

    def ask() -> Finding:
        try:
            store = open_store(url, settings.stored.options)
            store.write(name, b"Written by quarterdeck doctor, and removed at once.")
            listed = store.list("")
            read = store.read(name, 1000)
            store.remove([name])
            if name not in listed or read is None or store.read(name, 1000) is not None:
                return Finding("lake", "fail", f"{url}: what was written or removed is not seen at once", _LAKE_FIX)
        except LakeError as error:
            return Finding("lake", "fail", f"{error.where}: {error.what}", error.fix)
        return Finding("lake", "ok", f"{url}: can be listed, written, read and deleted; objects: {len(listed) - 1:,}")

    return _within_reach(late, ask)


def _unfinished(settings: Settings) -> Iterator[Finding]:
    """A stage that has begun to write the lake and has not ended; nothing where there is none."""
    from analytics.lake.version import lake_note

    try:
        note = lake_note(settings)
    except LakeError as error:
        yield Finding("tables", "fail", f"{error.where}: {error.what}", error.fix)
        return
    except OSError as error:
        yield Finding("tables", "fail", f"{error.filename}: {error.strerror}", "Make it readable.")
        return
    for stage in sorted(note.unfinished) if note else ():
        yield Finding(
            "tables",
            "warn",
            f"the last {stage} has not come to its end: it still runs, or was ended before",
            f"Run `quarterdeck {stage}`: until it has ended, no stage derives from what it writes.",
        )


def _landing(settings: Settings) -> Iterator[Finding]:
    files = sorted(settings.landing_dir.glob("*.duckdb")) if settings.landing_dir.is_dir() else []
    held: list[str] = []
    broken: list[str] = []
    for file in files:
        try:
            duckdb.connect(str(file), config={"autoinstall_known_extensions": False}).close()
        except duckdb.IOException as error:
            (held if "lock" in str(error).lower() else broken).append(file.name)
        except duckdb.Error:
            broken.append(file.name)
    if broken:
        yield Finding(
            "landing", "fail", f"cannot be read: {', '.join(broken)}", "Move the file away and run `quarterdeck pull`."
        )
    if held:
        yield Finding("landing", "warn", f"in use: {', '.join(held)}", "Wait for the other pull, or end it.")
    if not broken and not held:
        # A source may have a file for each of its shards.
        sources = {file.name.partition(".")[0] for file in files}
        yield Finding(
            "landing", "ok", f"sources landed: {len(sources)}, none in use" if files else "nothing landed yet"
        )


def _published(settings: Settings) -> Finding:
    path = settings.published_path
    if not path.exists():
        return Finding("published", "warn", "nothing measured yet", "Run `quarterdeck run`.")
    try:
        with duckdb.connect(str(path), read_only=True) as con:
            row = con.execute("SELECT count(*), count(DISTINCT quarter) FROM metric_values").fetchone()
    except duckdb.Error as error:
        return Finding("published", "fail", f"{path}: {str(error).splitlines()[0]}", "Run `quarterdeck measure`.")
    values, quarters = row or (0, 0)
    return Finding("published", "ok", f"values: {values:,}, quarters: {quarters}")


def _programs(settings: Settings | None) -> Iterator[Finding]:
    wants_git = settings is not None and any(isinstance(source, GitSource) for source in settings.sources)
    git = shutil.which("git")
    if git:
        yield Finding("git", "ok", git)
    else:
        yield Finding("git", "fail" if wants_git else "warn", "not found", "Install git to read clones.")
    yield browser_finding(find_browser())
    yield printing_finding(missing_print_libraries())


def _executor(settings: Settings) -> Finding:
    """Whether the package of the executor is here; whether a broker or a cluster answers is Dagster's to say."""
    kind = settings.executor.type
    package = EXECUTOR_MODULES[kind].replace("_", "-")
    if find_spec(EXECUTOR_MODULES[kind]) is None:
        fix = f"Install it beside Dagster, of the same release: pip install {package}"
        return Finding("executor", "fail", f"{kind} needs the package {package}, which is not installed", fix)
    return Finding("executor", "ok", kind)


def _spark(settings: Settings) -> Finding:
    """What the engine spark needs of this machine; a cluster is not asked."""
    remote = settings.engine.remote
    missing = missing_for_spark(remote)
    if missing is not None:
        return Finding("engine", "fail", f"spark: {missing[0]}", missing[1])
    return Finding("engine", "ok", f"Spark, on {remote or 'this machine'}")


def browser_finding(found: str | None) -> Finding:
    """Whether charts can be drawn as pictures; a pack is made without them too."""
    if found:
        return Finding("browser", "ok", f"{found} (optional, draws charts for print and mail)")
    return Finding("browser", "warn", "no Chromium found (optional): printed charts give way to tables", BROWSER_FIX)


def printing_finding(missing: list[str]) -> Finding:
    """Whether packs can be printed; a pack is made without PDF too."""
    if not missing:
        return Finding("printing", "ok", "Pango and HarfBuzz (optional, for PDF)")
    return Finding("printing", "warn", f"not found (optional): {', '.join(missing)}; packs come without PDF", PRINT_FIX)
