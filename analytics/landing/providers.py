"""The provider behind each configured source, told what the catalog says about its repositories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from analytics.catalog import Catalog, load_catalog
from analytics.landing.looks import shared_look
from analytics.landing.shards import Shard
from analytics.landing.translating import Translator
from analytics.settings import (
    FilesSource,
    GitHubSource,
    GitLabSource,
    GitSource,
    JiraSource,
    PagerDutySource,
    PrometheusSource,
    Settings,
    Source,
)
from analytics.sources.files import FilesProvider
from analytics.sources.git import GitProvider
from analytics.sources.github.payload_paths import Path, parse_path
from analytics.sources.port import Provider
from analytics.sources.service_names import ServiceNames

if TYPE_CHECKING:
    from analytics.sources.jira.translate import Rules


def provider_of(settings: Settings, source: Source, at_once: int = 1, shard: Shard | None = None) -> Provider:
    """The provider of a source; raises SettingsError for a catalog that cannot be read.

    Where `at_once` processes ask for shards of it, each keeps its part of the pace and of what one pull may ask for;
    one that asks for a `shard` alone shares its look at the repositories with the others.
    """
    if isinstance(source, FilesSource):
        return FilesProvider(source.name, source.path, source.sarif_blocks_at, source.incident_labels)
    if isinstance(source, GitSource):
        return _git(settings, source.name, source.repositories)
    if isinstance(source, GitLabSource):
        return _gitlab(settings, source, at_once)
    if isinstance(source, JiraSource):
        return _jira(settings, source)
    if isinstance(source, PagerDutySource):
        return _pagerduty(settings, source)
    if isinstance(source, PrometheusSource):
        return _prometheus(settings, source)
    return _github(settings, source, at_once, shard)


def translator_of(settings: Settings, source: Source) -> Translator | None:
    """How the kept answers of a source become records; None where a source answers with records."""
    if isinstance(source, GitHubSource):
        from analytics.sources.github.pages import records_of

        return partial(records_of, digest_path=_digest_path(source))
    if isinstance(source, GitLabSource):
        from analytics.sources.gitlab.translate import records_of as records_of_gitlab

        return records_of_gitlab
    if isinstance(source, JiraSource):
        from analytics.sources.jira.translate import records_of as records_of_jira

        names = _service_names(settings, source.services)
        return partial(records_of_jira, rules=jira_rules(source), services=names)
    if isinstance(source, PagerDutySource):
        from analytics.sources.pagerduty.translate import records_of as records_of_pagerduty

        return partial(records_of_pagerduty, services=_service_names(settings, source.services))
    if isinstance(source, PrometheusSource):
        from analytics.sources.prometheus.translate import records_of as records_of_prometheus

        return partial(records_of_prometheus, services=_service_names(settings, source.services))
    return None


def deploy_workflows(settings: Settings, source: Source) -> list[str]:
    """The workflows that the catalog names as deployments: their jobs are worth the most."""
    if not isinstance(source, GitHubSource):
        return []
    return sorted({service.deploys.workflow for service in _catalog(settings).services if service.deploys.workflow})


def _catalog(settings: Settings) -> Catalog:
    return load_catalog(settings.catalog if isinstance(settings.catalog, list) else [settings.catalog])


def _service_names(settings: Settings, in_settings: Mapping[str, str]) -> ServiceNames:
    return ServiceNames(in_settings, _catalog(settings).names())


def _git(settings: Settings, name: str, repositories: Mapping[str, str]) -> GitProvider:
    catalog = _catalog(settings)
    return GitProvider(
        name,
        repositories,
        clones_dir=settings.storage / "clones" / name,
        watched_paths=_runbooks(repositories, catalog),
        path_filtered=_path_filtered(repositories, catalog),
    )


def _github(settings: Settings, source: GitHubSource, at_once: int, shard: Shard | None) -> Provider:
    # Imported here: PyGithub takes a third of a second, which no other command should wait for.
    from analytics.sources.github.client import GitHubClient
    from analytics.sources.github.credentials import credential_of
    from analytics.sources.github.history import ApiHistory
    from analytics.sources.github.provider import GitHubProvider
    from analytics.sources.limits import POINTS_PER_MINUTE, budget_of

    credential = credential_of(source)
    pace = POINTS_PER_MINUTE // at_once
    budget = budget_of(source.base_url, credential.counted_as, source.max_wait_seconds, pace)
    client = GitHubClient(credential, source.base_url, budget)

    def history_of(addresses: Mapping[str, str]) -> GitProvider | ApiHistory:
        if source.commits == "api":
            catalog = _catalog(settings)
            return ApiHistory(client, _runbooks(addresses, catalog), _path_filtered(addresses, catalog))
        token = credential.git_token()
        reached = {name: _with_token(url, "x-access-token", token) for name, url in addresses.items()}
        return _git(settings, source.name, reached)

    question = (source.base_url, credential.counted_as, source.organization, *source.repositories)
    return GitHubProvider(
        source.name,
        client,
        organization=source.organization,
        repositories=source.repositories,
        history_of=history_of,
        incident_labels=source.incident_labels,
        since=source.since,
        jobs_per_pull=-(-source.jobs_per_pull // at_once),
        workers=source.workers,
        digest_path=_digest_path(source),
        deployment_records=source.deployment_records,
        share=None if shard is None else partial(shared_look, settings, source.name, shard, question),
    )


def _digest_path(source: GitHubSource) -> Path | None:
    return parse_path(source.deployment_digest) if source.deployment_digest is not None else None


def _gitlab(settings: Settings, source: GitLabSource, at_once: int) -> Provider:
    from analytics.sources.gitlab.client import POINTS_PER_MINUTE, GitLabClient
    from analytics.sources.gitlab.provider import GitLabProvider
    from analytics.sources.limits import Budget

    budget = Budget(source.max_wait_seconds, POINTS_PER_MINUTE // at_once, host="GitLab")

    def history_of(addresses: Mapping[str, str]) -> GitProvider:
        token = source.token.reveal()
        reached = {name: _with_token(url, "oauth2", token) for name, url in addresses.items()}
        return _git(settings, source.name, reached)

    return GitLabProvider(
        source.name,
        GitLabClient(source.token, source.base_url, budget),
        group=source.group,
        projects=source.projects,
        history_of=history_of,
        incident_labels=source.incident_labels,
        since=source.since,
        workers=source.workers,
    )


def _jira(settings: Settings, source: JiraSource) -> Provider:
    from analytics.sources.jira.client import POINTS_PER_MINUTE, JiraClient
    from analytics.sources.jira.provider import JiraProvider
    from analytics.sources.limits import Budget

    budget = Budget(source.max_wait_seconds, POINTS_PER_MINUTE, host="Jira")
    client = JiraClient(source.base_url, source.token, budget, source.email)
    kinds = {"incidents": source.incidents, "changes": source.changes}
    jql = {kind: given.jql for kind, given in kinds.items() if given is not None}
    names = _service_names(settings, source.services)
    return JiraProvider(source.name, client, jql, jira_rules(source), names, source.since)


def jira_rules(source: JiraSource) -> Rules:
    """How the issues of a source are read."""
    from analytics.sources.jira.translate import Rules

    read = source.incidents.model_dump(exclude={"jql"}) if source.incidents is not None else {}
    if source.changes is not None:
        read["approved_statuses"] = source.changes.approved_statuses
        read["revoked_statuses"] = source.changes.revoked_statuses
        read["change_deployment_field"] = source.changes.deployment_field
    return Rules(**read)


def _pagerduty(settings: Settings, source: PagerDutySource) -> Provider:
    from analytics.sources.limits import Budget
    from analytics.sources.pagerduty.client import POINTS_PER_MINUTE, PagerDutyClient
    from analytics.sources.pagerduty.provider import PagerDutyProvider

    budget = Budget(source.max_wait_seconds, POINTS_PER_MINUTE, host="PagerDuty")
    client = PagerDutyClient(source.token, source.base_url, budget)
    return PagerDutyProvider(source.name, client, _service_names(settings, source.services), source.since)


def _prometheus(settings: Settings, source: PrometheusSource) -> Provider:
    from analytics.sources.limits import Budget
    from analytics.sources.prometheus.client import POINTS_PER_MINUTE, PrometheusClient
    from analytics.sources.prometheus.provider import Asked, PrometheusProvider

    budget = Budget(source.max_wait_seconds, POINTS_PER_MINUTE, host="Prometheus")
    client = PrometheusClient(source.base_url, budget, source.token, source.user, source.tenant)
    slos = {
        name: Asked(slo.query, slo.step_seconds, slo.service_label, slo.slo_label) for name, slo in source.slos.items()
    }
    given, alerts = source.alerts, None
    if given is not None:
        alerts = Asked(given.asked, given.step_seconds, given.service_label, severity_label=given.severity_label)
    names = _service_names(settings, source.services)
    return PrometheusProvider(source.name, client, slos, alerts, names, source.since)


def _with_token(url: str, user: str, token: str) -> str:
    """An address through which git may read; it travels in git's environment and is scrubbed from all it says."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(token, safe='')}@{parts.netloc}"))


def _runbooks(repositories: Iterable[str], catalog: Catalog) -> dict[str, list[str]]:
    """The runbook paths of the services that live in each repository."""
    watched: dict[str, list[str]] = {}
    for repository in repositories:
        paths: set[str] = set()
        for service in catalog.of_repository(repository):
            paths.update(service.runbooks)
            if service.rollback.runbook:
                paths.add(service.rollback.runbook)
        if paths:
            watched[repository] = sorted(paths)
    return watched


def _path_filtered(repositories: Iterable[str], catalog: Catalog) -> list[str]:
    """The repositories of which a service owns only some paths, so that commits need their files."""
    return [
        repository for repository in repositories if any(service.paths for service in catalog.of_repository(repository))
    ]
