"""`quarterdeck.yaml`: what the user declares once, checked before anything runs.

Source: contract.md section 3. Paths are relative to the settings file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, field_validator, model_validator

from analytics.errors import SettingsError
from analytics.metric_names import METRIC_NAMES
from analytics.models import StrictModel, parse_model, unknown_key
from analytics.periods import Calendar
from analytics.secrets import Secret
from analytics.sources.github.payload_paths import parse_path
from analytics.sources.sarif_gates import Level
from analytics.yaml_lines import Location, YamlDocument, read_yaml

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Of the options of an object store.
_SECRET_OPTIONS = re.compile(r"secret|passw|token|credential|connection_string|sas|sse_customer|(^|_)key$", re.I)
_SECRET_KEYS = ("token", "private_key", "webhook", "signing_key", "password")
# Keys of an executor whose values are addresses with passwords.
_BROKERS = ("broker", "backend")
_CRON = r"^\s*[\d*/,-]+(\s+[\d*/,-]+){2}(\s+[\w*/,-]+){2}\s*$"
_ADDRESS = r"^[^\s@<>,;]+@[^\s@<>,;]+$"
_GITLAB_PATH = r"^[\w.-]+(/[\w.-]+)*$"
_PROMETHEUS_LABEL = r"^[A-Za-z_][A-Za-z0-9_]*$"
_SOURCE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
# Into how many parts a source's repositories are cut, each of which is pulled into a file of its own.
Shards = Annotated[int, Field(ge=1, le=256, strict=True)]


class FilesSource(StrictModel):
    """A folder of feed files."""

    type: Literal["files"]
    name: str = Field(pattern=_SOURCE_NAME)
    path: Path
    # From which level on a result in a SARIF file blocks.
    sarif_blocks_at: Level = "error"
    # Of saved webhook deliveries, issues with one of these labels are incidents.
    incident_labels: list[str] = ["incident"]


class GitSource(StrictModel):
    """Clones or URLs, by repository name."""

    type: Literal["git"]
    name: str = Field(pattern=_SOURCE_NAME)
    repositories: dict[str, str]
    # Parts of the repositories that several processes can pull at the same time.
    shards: Shards = 1


class GitHubApp(StrictModel):
    """An installation of a GitHub App; reading needs no more than its read permissions."""

    id: int
    installation_id: int
    private_key: Secret


class GitHubSource(StrictModel):
    """An organisation on GitHub, or the repositories listed of it, with a token or an app."""

    type: Literal["github"]
    name: str = Field(pattern=_SOURCE_NAME)
    organization: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    # Listed ones are read alone, also where an organisation is named.
    repositories: list[Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]] = []
    token: Secret | None = None
    app: GitHubApp | None = None
    # A GitHub Enterprise Server has its own, like https://ghe.example.com/api/v3.
    base_url: str = Field(
        default_factory=lambda: os.environ.get("GITHUB_API_URL") or "https://api.github.com", validate_default=True
    )
    incident_labels: list[str] = ["incident"]
    # Nothing that was made before this day is asked for.
    since: date | None = None
    # Jobs cost one request a run; what is left over comes with later pulls, newest first.
    jobs_per_pull: int = Field(default=2000, ge=0)
    # Which way commits come: git is the cheaper one by far.
    commits: Literal["git", "api"] = "git"
    # A longer pause than this ends the pull, which goes on with the next one.
    max_wait_seconds: float = Field(default=60, ge=0)
    workers: int = Field(default=4, ge=1, le=10)
    # Parts of the repositories that several processes can pull at the same time.
    shards: Shards = 1
    # Where a deployment's payload names its artifact, as $.artifact.digest; else the one digest in it counts.
    deployment_digest: str | None = None
    # Ask which places run each released artifact: a request for each, so only where somebody writes such records.
    deployment_records: bool = False

    @field_validator("deployment_digest")
    @classmethod
    def _a_path(cls, value: str | None) -> str | None:
        if value is not None:
            parse_path(value)
        return value

    @field_validator("base_url")
    @classmethod
    def _a_place_for_a_token(cls, value: str) -> str:
        return _place_for_a_token(value, "https://ghe.example.com/api/v3")

    @model_validator(mode="after")
    def _says_what_and_who(self) -> GitHubSource:
        if self.organization is None and not self.repositories:
            raise ValueError("give organization, or repositories")
        if (self.token is None) == (self.app is None):
            raise ValueError('give either token or app; a token is written as token: "${GITHUB_TOKEN}"')
        return self


class GitLabSource(StrictModel):
    """A group on GitLab with its subgroups, or the projects listed, with a token that may read the API."""

    type: Literal["gitlab"]
    name: str = Field(pattern=_SOURCE_NAME)
    group: str | None = Field(default=None, pattern=_GITLAB_PATH)
    # Listed ones are read alone, also where a group is named.
    projects: list[Annotated[str, Field(pattern=_GITLAB_PATH)]] = []
    token: Secret
    base_url: str = "https://gitlab.com"
    # Beside issues of the type incident, those with one of these labels.
    incident_labels: list[str] = []
    # Nothing that last changed before this day is asked for.
    since: date | None = None
    # A longer pause than this ends the pull, which goes on with the next one.
    max_wait_seconds: float = Field(default=60, ge=0)
    workers: int = Field(default=4, ge=1, le=10)
    # Parts of the projects that several processes can pull at the same time.
    shards: Shards = 1

    @field_validator("base_url")
    @classmethod
    def _a_place_for_a_token(cls, value: str) -> str:
        return _place_for_a_token(value, "https://gitlab.example.com").removesuffix("/api/v4")

    @model_validator(mode="after")
    def _says_what(self) -> GitLabSource:
        if self.group is None and not self.projects:
            raise ValueError("give group, or projects")
        return self


class PagerDutySource(StrictModel):
    """An account on PagerDuty, with a key that may read."""

    type: Literal["pagerduty"]
    name: str = Field(pattern=_SOURCE_NAME)
    token: Secret
    # Accounts of the European region: https://api.eu.pagerduty.com
    base_url: str = "https://api.pagerduty.com"
    # A service's id or name there, and its name in the catalog; beside the catalog's names and aliases.
    services: dict[str, str] = {}
    # Nothing that last changed before this day is asked for.
    since: date | None = None
    # A longer pause than this ends the pull, which goes on with the next one.
    max_wait_seconds: float = Field(default=60, ge=0)

    @field_validator("base_url")
    @classmethod
    def _a_place_for_a_token(cls, value: str) -> str:
        return _place_for_a_token(value, "https://api.eu.pagerduty.com")


class SloQuery(StrictModel):
    """A query that gives, for each service, the share of an error budget that is left (0 to 1)."""

    query: str = Field(min_length=1)
    service_label: str = Field(default="service", pattern=_PROMETHEUS_LABEL)
    # The label that names the objective, where the query gives several; else they are named by the key.
    slo_label: str | None = None
    step_seconds: int = Field(default=3600, ge=15, le=86_400)


class AlertQuery(StrictModel):
    """Alerts that count as incidents; without a query, all that fire."""

    query: str = ""
    service_label: str = Field(default="service", pattern=_PROMETHEUS_LABEL)
    severity_label: str = Field(default="severity", pattern=_PROMETHEUS_LABEL)
    step_seconds: int = Field(default=60, ge=15, le=3600)

    @property
    def asked(self) -> str:
        """The query, or the one that is meant without it: ten pods that fire are one alert."""
        labels = f"alertname, {self.service_label}, {self.severity_label}"
        return self.query or f'max by ({labels}) (ALERTS{{alertstate="firing"}})'


class PrometheusSource(StrictModel):
    """A Prometheus server, or what speaks its API, with or without a token."""

    type: Literal["prometheus"]
    name: str = Field(pattern=_SOURCE_NAME)
    base_url: str
    token: Secret | None = None
    # With a user the token is the password.
    user: str | None = None
    # Of servers with several tenants (X-Scope-OrgID).
    tenant: str | None = Field(default=None, pattern=r"^[\w.|()*!'-]{1,150}$")
    slos: dict[Annotated[str, Field(pattern=r"^[\w .-]{1,200}$")], SloQuery] = {}
    alerts: AlertQuery | None = None
    # A label's value, and the service's name in the catalog; beside the catalog's names and aliases.
    services: dict[str, str] = {}
    # The first pull asks from this day on, else for 100 days.
    since: date | None = None
    # A longer pause than this ends the pull, which goes on with the next one.
    max_wait_seconds: float = Field(default=60, ge=0)

    @model_validator(mode="after")
    def _says_what_and_where(self) -> PrometheusSource:
        if not self.slos and self.alerts is None:
            raise ValueError("give slos, or alerts")
        if self.user is not None and self.token is None:
            raise ValueError('a user needs a password; write it as token: "${PROMETHEUS_PASSWORD}"')
        _place(self.base_url, "https://prometheus.example.com", for_a_token=self.token is not None)
        return self


def _jql(value: str) -> str:
    if re.search(r"\border\s+by\b", value, re.I):
        raise ValueError("write the JQL without ORDER BY; it is read in the order of changes")
    return value


Jql = Annotated[str, Field(min_length=1), AfterValidator(_jql)]


class JiraIncidents(StrictModel):
    """Which issues are incidents, and how they are read; fields by their names or ids."""

    jql: Jql = "issuetype = Incident"
    # Statuses in which the harm is over, though the work may not be.
    mitigated_statuses: list[str] = ["Mitigated"]
    # Statuses in which it is over; else those that Jira counts as done.
    resolved_statuses: list[str] = []
    # Beside components, and labels such as service:checkout.
    service_field: str | None = None
    # Else the priority.
    severity_field: str | None = None
    impact_started_field: str | None = None
    # The deployment that caused it.
    deployment_field: str | None = None
    # What it shares with the same incident elsewhere; an address at PagerDuty is understood.
    dedupe_field: str | None = None


class JiraChanges(StrictModel):
    """Change tickets, whose approvals count for the deployments that a field names."""

    jql: Jql
    deployment_field: str
    approved_statuses: list[str] = ["Approved"]
    # A ticket that ended in one of them approves nothing.
    revoked_statuses: list[str] = ["Rejected", "Declined", "Cancelled", "Canceled"]


class JiraSource(StrictModel):
    """A site of Jira Cloud (email and API token) or Data Center (personal access token)."""

    type: Literal["jira"]
    name: str = Field(pattern=_SOURCE_NAME)
    base_url: str
    email: str | None = Field(default=None, pattern=r"^[^@\s:]+@[^@\s:]+$")
    token: Secret
    incidents: JiraIncidents | None = JiraIncidents()
    changes: JiraChanges | None = None
    # A component, label or field's value, and the service's name in the catalog; beside its names and aliases.
    services: dict[str, str] = {}
    # Nothing that last changed before this day is asked for.
    since: date | None = None
    # A longer pause than this ends the pull, which goes on with the next one.
    max_wait_seconds: float = Field(default=60, ge=0)

    @field_validator("base_url")
    @classmethod
    def _a_place_for_a_token(cls, value: str) -> str:
        return _place_for_a_token(value, "https://acme.atlassian.net")

    @model_validator(mode="after")
    def _says_what(self) -> JiraSource:
        if self.incidents is None and self.changes is None:
            raise ValueError("give incidents, or changes")
        return self


def _has_zone_data() -> bool:
    try:
        ZoneInfo.no_cache("Europe/Berlin")
    except (ValueError, OSError, KeyError):
        return False
    return True


def _place_for_a_token(address: str, example: str) -> str:
    return _place(address, example, for_a_token=True)


def _place(address: str, example: str, *, for_a_token: bool) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"write an address like {example}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Not repeated: it may hold a password.
        raise ValueError("write the address alone, without user, password or query")
    if for_a_token and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("a token must not travel without encryption; write https://")
    return address.rstrip("/")


Source = Annotated[
    FilesSource | GitSource | GitHubSource | GitLabSource | JiraSource | PagerDutySource | PrometheusSource,
    Field(discriminator="type"),
]


class IncidentRules(StrictModel):
    """How incidents find their deployment."""

    link_window_hours: float = Field(default=24, ge=0)
    rollback_is_evidence: bool = False
    # A checked-in list of human decisions that win over every rule.
    overrides: Path | None = None


class ReworkRules(StrictModel):
    """What counts as a hotfix, on a deployment or a pull request."""

    labels: list[str] = ["hotfix"]
    branches: list[str] = ["hotfix/*"]
    titles: list[str] = ["hotfix*"]


class PracticeRules(StrictModel):
    """What counts as ready, verified, fresh, drifted and onboarded (metrics.md section 4, rows 8 to 17)."""

    # Services of these tiers are to be ready for a rollback.
    critical_tiers: list[Annotated[int, Field(ge=0)]] = [0, 1]
    # A drill counts for so many days before a quarter's end (or the cut-off).
    drill_window_days: int = Field(default=180, ge=1, le=3660)
    # A runbook is fresh for so many months before a quarter's end (or the cut-off).
    runbook_months: int = Field(default=6, ge=1, le=120)
    # Checks of these kinds, and jobs of these names in the deployment's own run, verify a deployment.
    check_kinds: list[str] = ["smoke*", "synthetic*"]
    check_jobs: list[str] = ["*smoke*", "*synthetic*"]
    # How long before and after a deployment its error budget is looked at.
    budget_window_hours: float = Field(default=24, gt=0, le=24 * 90)
    # Incidents with such a label are configuration drift.
    drift_labels: list[str] = ["*drift*"]
    # Reusable workflows that are a standard; without any, every one that lies in another repository than the run.
    templates: list[str] = []


class SupplyChainSettings(StrictModel):
    """Where policies, waivers, roots, bundles and SBOMs are."""

    policies: Path | None = None
    waivers: Path | None = None
    trusted_roots: list[Path] = []
    bundles: list[str] = []
    sboms: list[str] = []
    # A folder of OSV records, CISA's catalogue of exploited vulnerabilities (JSON) and FIRST's scores (CSV).
    osv: Path | None = None
    kev: Path | None = None
    epss: Path | None = None


class FolderDelivery(StrictModel):
    """A folder or static site that each new pack is copied into, with the index of all packs."""

    type: Literal["folder"]
    name: str = Field(default="folder", pattern=_SOURCE_NAME)
    path: Path


class EmailDelivery(StrictModel):
    """An e-mail edition over SMTP: main points and scorecard in the mail, the leadership edition as PDF beside it."""

    type: Literal["email"]
    name: str = Field(default="email", pattern=_SOURCE_NAME)
    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = Field(alias="from", pattern=_ADDRESS)
    to: list[Annotated[str, Field(pattern=_ADDRESS)]] = Field(min_length=1)
    user: str | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _hides_its_password(self) -> EmailDelivery:
        if (self.user is None) != (self.password is None):
            raise ValueError('give user and password together, or neither; a password is written as "${SMTP_PASSWORD}"')
        if self.password is not None and self.security == "none":
            raise ValueError("a password must not travel without encryption; write security: starttls, or tls")
        return self


class WebhookDelivery(StrictModel):
    """A Slack-compatible webhook that is told of each new pack; its address is a secret."""

    type: Literal["webhook"]
    name: str = Field(default="webhook", pattern=_SOURCE_NAME)
    url: Secret
    # Where readers find the packs; the message links there.
    link: str | None = Field(default=None, pattern=r"^https?://[^\s<>|]+$")


Delivery = Annotated[FolderDelivery | EmailDelivery | WebhookDelivery, Field(discriminator="type")]


class ReportSettings(StrictModel):
    """What a pack says about itself, who signs it, what is printed, and where it goes."""

    title: str | None = None
    owner: str | None = None
    # A private key in PEM that signs each pack; the same key gives the same bytes.
    signing_key: Secret | None = None
    # Sign through Sigstore's public instance where the job has an OIDC token of its own: this writes to a public log.
    keyless: bool = False
    # Editions that are printed as PDF; none makes packs faster.
    printed: list[Literal["leadership", "security", "team"]] = ["leadership", "security", "team"]
    delivery: list[Delivery] = []

    @model_validator(mode="after")
    def _delivery_names_differ(self) -> ReportSettings:
        names = [delivery.name for delivery in self.delivery]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two deliveries are named '{name}'; give each its own name")
        return self


class EngineSettings(StrictModel):
    """What runs the queries: DuckDB on this machine, or Spark; and how much of the machine DuckDB may take.

    What exceeds the memory limit spills to the storage's temporary folder.
    """

    type: Literal["duckdb", "spark"] = "duckdb"
    # A cluster: Spark Connect's address (`sc://host:15002`) or a master (`spark://…`, `yarn`); none is this machine.
    remote: str | None = Field(default=None, pattern=r"^(sc://|spark://|k8s://|yarn$|local(\[(\d+|\*)\])?$)\S*$")
    # Spark's own settings, such as spark.executor.memory; secrets belong into the cluster's configuration.
    options: dict[str, str | int | bool] = {}
    memory_limit: str = Field(default="2GB", pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$")
    max_temp_directory_size: str = Field(default="50GB", pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$")
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _spark_alone_has_options(self) -> EngineSettings:
        if self.type != "spark" and (self.remote or self.options):
            raise ValueError("`remote` and `options` are Spark's; add `type: spark` or remove them")
        if self.remote is not None and "token=" in self.remote.lower():
            raise ValueError("`remote` holds a token; put it into the environment, SPARK_CONNECT_AUTHENTICATE_TOKEN")
        for name in self.options:
            if not name.startswith("spark."):
                raise ValueError(f"'{name}' is no setting of Spark's: they begin with `spark.`")
            if any(word in name.lower() for word in ("secret", "password", "token", "credential", "access.key")):
                raise ValueError(f"'{name}' may hold a secret; put it into the cluster's configuration")
        return self


class StorageSettings(StrictModel):
    """Where everything is kept: a folder of this machine, and for the lake an object store if there is one."""

    # Landing, published database, packs, temporary files; and the lake, unless an object store holds it.
    path: Path = Path("quarterdeck-data")
    lake: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    # What the store's library wants to know (fsspec); without any, s3fs looks where AWS's own tools look.
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _a_path_or_a_url(cls, data: Any) -> Any:
        if isinstance(data, str) and "://" in data:
            return {"lake": data}
        if isinstance(data, str | Path):
            return {"path": data}
        if data is not None and not isinstance(data, Mapping | cls):
            raise ValueError("write a folder, the URL of an object store, or a mapping of path, lake and options")
        return {} if data is None else data

    @field_validator("lake")
    @classmethod
    def _a_place_for_a_lake(cls, value: str | None) -> str | None:
        return value if value is None else _place_for_a_lake(value)

    @field_validator("options")
    @classmethod
    def _hides_its_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        hidden: dict[str, Any] = _with_secrets(value)
        return hidden

    @model_validator(mode="after")
    def _options_are_of_a_store(self) -> StorageSettings:
        if self.options and self.lake is None:
            raise ValueError('options belong to an object store; give its URL as lake: "s3://bucket/prefix"')
        return self


def _place_for_a_lake(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or scheme == "file" or not rest or rest.startswith("/"):
        raise ValueError("write the URL of an object store like s3://bucket/prefix; a folder stands under `path`")
    if "@" in rest.split("/")[0]:
        # Not repeated: it may hold a password.
        raise ValueError("write the URL without user and password; credentials belong to the environment or `options`")
    if re.search(r"[?#*\[\]\x00-\x1f\x7f\\]|::|(^|/)\.{1,2}(/|$)|[^/]//", rest):
        raise ValueError("an object store's URL holds no query, no pattern and no dots as a folder")
    return url.rstrip("/")


def _with_secrets(value: Any, key: str = "") -> Any:
    """Options with what is, or is named like, a secret as a reference; raises ValueError for one that stands there."""
    if isinstance(value, Mapping):
        return {str(name): _with_secrets(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_secrets(item, key) for item in value]
    if isinstance(value, str) and (_SECRET_OPTIONS.search(key) or _VARIABLE.fullmatch(value)):
        try:
            return Secret(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return value


class ScheduleSettings(StrictModel):
    """When things run by themselves, as cron lines in the settings' zone; a fixed `now` switches everything off."""

    enabled: bool = True
    # Pull, build, verify and measure.
    nightly: str = Field(default="30 2 * * *", pattern=_CRON)
    # The quarter's pack: so many days after the quarter's end, at this hour.
    pack_days_after_quarter: int = Field(default=5, ge=0, le=27)
    pack_hour: int = Field(default=6, ge=0, le=23)
    # The quarter so far, in a few lines.
    flash: str = Field(default="0 7 1 * *", pattern=_CRON)


class AlertSettings(StrictModel):
    """Whom to tell, and after how long; without a webhook, alerts are lines of the log."""

    webhook: Secret | None = None
    # A source that was not asked for so long, or gave nothing new for so long.
    stale_after_hours: float = Field(default=36, gt=0)
    silent_after_days: float = Field(default=7, gt=0)
    # A waiver is called out this many days before it ends.
    waiver_days: int = Field(default=14, ge=0)


StageName = Literal["pull", "build", "verify", "measure", "pack"]


class StepSettings(StrictModel):
    """What the steps of one stage need of the place where they run."""

    # Celery: the queue whose workers take them.
    queue: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][\w.-]{0,99}$")
    # Kubernetes: what is asked for; memory is the limit too.
    cpu: str | None = Field(default=None, pattern=r"^(\d{1,4}(\.\d{1,3})?|\d{1,7}m)$")
    memory: str | None = Field(default=None, pattern=r"^\d{1,7}(\.\d{1,3})?[KMGT]i?$")


# The module, and the package of that name, that each of Dagster's executors comes with.
EXECUTOR_MODULES = {
    "in_process": "dagster",
    "multiprocess": "dagster",
    "k8s_job": "dagster_k8s",
    "celery": "dagster_celery",
    "celery_k8s": "dagster_celery_k8s",
}


class ExecutorSettings(StrictModel):
    """Where Dagster runs the steps of a run: one after the other in its process, or side by side."""

    type: Literal["in_process", "multiprocess", "k8s_job", "celery", "celery_k8s"] = "in_process"
    # What that executor of Dagster's may be told, such as max_concurrent; checked by its own schema.
    config: dict[str, Any] = {}
    steps: dict[StageName, StepSettings] = {}

    @field_validator("config")
    @classmethod
    def _hides_its_passwords(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in _BROKERS:
            if isinstance(value.get(key), str) and not _VARIABLE.fullmatch(value[key]):
                # Not repeated: it may hold a password.
                raise ValueError(f'{key} is an address with a password; write it as "${{NAME}}", a variable')
        return value


class RetentionSettings(StrictModel):
    """How long what was received is kept as it came; records are always kept."""

    # Bodies of an API's answers; without a number they are kept for good, and `reprocess` can translate them anew.
    raw_pages_days: int | None = Field(default=None, ge=1)


class Settings(StrictModel):
    """Everything in `quarterdeck.yaml`, with paths made absolute by `load_settings`."""

    # A traceback must not show a secret that stands where its reference should.
    model_config = ConfigDict(hide_input_in_errors=True)

    organization: str = Field(min_length=1)
    time_zone: str = "UTC"
    fiscal_year_start_month: int = Field(default=1, ge=1, le=12)
    stored: StorageSettings = Field(default=StorageSettings(), alias="storage")
    catalog: Path | list[Path] = Path("catalog.yaml")
    fixed_now: AwareDatetime | None = Field(default=None, alias="now")
    sources: list[Source] = []
    incidents: IncidentRules = IncidentRules()
    rework: ReworkRules = ReworkRules()
    practices: PracticeRules = PracticeRules()
    bots: list[str] = ["*[bot]", "renovate*", "dependabot*"]
    supply_chain: SupplyChainSettings = SupplyChainSettings()
    targets: dict[str, float] = {}
    reports: ReportSettings = ReportSettings()
    engine: EngineSettings = EngineSettings()
    executor: ExecutorSettings = ExecutorSettings()
    schedules: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    retention: RetentionSettings = RetentionSettings()
    # Where the settings file stands; set by load_settings, never by the user.
    settings_path: Path = Field(default=Path("quarterdeck.yaml"), exclude=True, alias="__path__")

    @field_validator("targets")
    @classmethod
    def _targets_name_metrics(cls, targets: dict[str, float]) -> dict[str, float]:
        for name in targets:
            if name not in METRIC_NAMES:
                raise unknown_key(name, METRIC_NAMES)
        return targets

    @field_validator("fixed_now")
    @classmethod
    def _within_reach(cls, value: datetime | None) -> datetime | None:
        # Quarters before and after it must exist in every zone.
        if value is not None and not 1970 <= value.year < 9990:
            raise ValueError("is not between the years 1970 and 9989")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
            if not _has_zone_data():
                raise ValueError(
                    "this machine has no time zones; install tzdata (the system's, or with pip)"
                ) from error
            raise ValueError(f"'{value}' is not an IANA time zone such as Europe/Berlin") from error
        return value

    @model_validator(mode="after")
    def _source_names_differ(self) -> Settings:
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are named '{name}'; give each its own name")
        return self

    @property
    def calendar(self) -> Calendar:
        """The calendar in which periods are cut."""
        return Calendar(ZoneInfo(self.time_zone), self.fiscal_year_start_month)

    def now(self) -> datetime:
        """The cut-off: the fixed `now` of the settings, else the wall clock, as an aware UTC time."""
        return (self.fixed_now or datetime.now(UTC)).astimezone(UTC)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Settings:
        """The same with some values replaced; `storage` replaces its folder alone."""
        changes = dict(update or {})
        if "storage" in changes:
            changes["stored"] = self.stored.model_copy(update={"path": changes.pop("storage")})
        return super().model_copy(update=changes, deep=deep)

    @property
    def storage(self) -> Path:
        """The folder of this machine: everything but a lake that has its own place."""
        return self.stored.path

    @property
    def landing_dir(self) -> Path:
        """Raw items, one DuckDB file per source."""
        return self.storage / "landing"

    @property
    def lake_dir(self) -> Path:
        """Typed tables, facts and metric values as Parquet, unless an object store holds them."""
        return self.storage / "lake"

    @property
    def lake_url(self) -> str | None:
        """The object store that holds the lake; None where it is a folder."""
        return self.stored.lake

    @property
    def published_path(self) -> Path:
        """The database that people open."""
        return self.storage / "analytics.duckdb"

    @property
    def packs_dir(self) -> Path:
        """One folder per published pack."""
        return self.storage / "packs"

    @property
    def temp_dir(self) -> Path:
        """Half-written files and spill, on the same file system so that a rename publishes."""
        return self.storage / ".tmp"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance: runs, events, schedules."""
        return self.storage / "dagster"


def load_settings(path: Path) -> Settings:
    """Read and check a settings file; raises SettingsError naming file, line, key and the nearest known key."""
    documents = read_yaml(path)
    if len(documents) != 1:
        raise SettingsError(f"holds {len(documents)} YAML documents where one is expected", where=str(path))
    document = documents[0]
    value = _expand(document, document.value, ())
    settings = parse_model(Settings, document, value)
    base = path.resolve().parent

    def rooted(relative: Path) -> Path:
        return (base / relative.expanduser()).resolve()

    catalogs = settings.catalog if isinstance(settings.catalog, list) else [settings.catalog]
    chain = settings.supply_chain
    return settings.model_copy(
        update={
            "settings_path": path.resolve(),
            "stored": _rooted_storage(settings.stored, base),
            "catalog": [rooted(entry) for entry in catalogs],
            "incidents": settings.incidents.model_copy(
                update={"overrides": rooted(settings.incidents.overrides) if settings.incidents.overrides else None}
            ),
            "alerts": settings.alerts.model_copy(
                update={"webhook": settings.alerts.webhook and settings.alerts.webhook.rooted(base)}
            ),
            "supply_chain": chain.model_copy(
                update={
                    "policies": rooted(chain.policies) if chain.policies else None,
                    "waivers": rooted(chain.waivers) if chain.waivers else None,
                    "trusted_roots": [rooted(root) for root in chain.trusted_roots],
                    "osv": rooted(chain.osv) if chain.osv else None,
                    "kev": rooted(chain.kev) if chain.kev else None,
                    "epss": rooted(chain.epss) if chain.epss else None,
                }
            ),
            "sources": [_rooted_source(source, base) for source in settings.sources],
            "reports": _rooted_reports(settings.reports, base),
        }
    )


def _rooted_storage(stored: StorageSettings, base: Path) -> StorageSettings:
    return stored.model_copy(
        update={
            "path": (base / stored.path.expanduser()).resolve(),
            "options": _rooted_options(stored.options, base),
        }
    )


def _rooted_options(value: Any, base: Path) -> Any:
    if isinstance(value, dict):
        return {name: _rooted_options(item, base) for name, item in value.items()}
    if isinstance(value, list):
        return [_rooted_options(item, base) for item in value]
    return value.rooted(base) if isinstance(value, Secret) else value


def _rooted_source(source: Source, base: Path) -> Source:
    if isinstance(source, FilesSource):
        return source.model_copy(update={"path": (base / source.path.expanduser()).resolve()})
    if isinstance(source, GitSource):
        return source.model_copy(
            update={"repositories": {name: _rooted_clone(at, base) for name, at in source.repositories.items()}}
        )
    if isinstance(source, GitLabSource | JiraSource | PagerDutySource):
        return source.model_copy(update={"token": source.token.rooted(base)})
    if isinstance(source, PrometheusSource):
        return source.model_copy(update={"token": source.token and source.token.rooted(base)})
    return source.model_copy(
        update={
            "token": source.token and source.token.rooted(base),
            "app": source.app and source.app.model_copy(update={"private_key": source.app.private_key.rooted(base)}),
        }
    )


def _rooted_reports(reports: ReportSettings, base: Path) -> ReportSettings:
    return reports.model_copy(
        update={
            "signing_key": reports.signing_key and reports.signing_key.rooted(base),
            "delivery": [_rooted_delivery(delivery, base) for delivery in reports.delivery],
        }
    )


def _rooted_delivery(delivery: Delivery, base: Path) -> Delivery:
    if isinstance(delivery, FolderDelivery):
        return delivery.model_copy(update={"path": (base / delivery.path.expanduser()).resolve()})
    if isinstance(delivery, EmailDelivery):
        return delivery.model_copy(update={"password": delivery.password and delivery.password.rooted(base)})
    return delivery.model_copy(update={"url": delivery.url.rooted(base)})


def _rooted_clone(location: str, base: Path) -> str:
    """A path becomes absolute; a URL and an scp-like address stay as they are."""
    if "://" in location or re.match(r"^[\w.-]+@[\w.-]+:", location):
        return location
    return str((base / Path(location).expanduser()).resolve())


def _is_secret(at: Location, value: str) -> bool:
    # Of an object store's options, whatever is nothing but a variable: each library names its secrets differently.
    if at[:2] == ("storage", "options") and _VARIABLE.fullmatch(value):
        return True
    if at[:2] == ("executor", "config") and at[-1] in _BROKERS:
        return True
    # A webhook's address lets anyone write who knows it.
    return bool(at) and (at[-1] in _SECRET_KEYS or (at[0] == "reports" and at[-1] == "url"))


def _expand(document: YamlDocument, value: Any, at: Location) -> Any:
    """Replace ``${NAME}`` from the environment; a missing one is named with its line, its value never shown."""
    if isinstance(value, str):

        def substitute(match: re.Match[str]) -> str:
            name = match[1]
            if name not in os.environ:
                key = ".".join(map(str, at))
                raise SettingsError.at(
                    document.path,
                    document.line(at),
                    f"{key}: the environment variable {name} is not set",
                    f"Set {name}, or remove the key.",
                )
            return os.environ[name]

        expanded = _VARIABLE.sub(substitute, value)
        # A secret stays a reference: it is read where it is used, and can be printed nowhere.
        return value if _is_secret(at, value) else expanded
    if isinstance(value, dict):
        return {key: _expand(document, item, (*at, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(document, item, (*at, index)) for index, item in enumerate(value)]
    return value
