"""Facts of how people work: drills, runbooks, checks, error budgets, gates, interventions, surveys, templates.

Each is a query of this room over the typed tables and the deployments already derived; what a name means (a runbook's
path, a template, the kind of a check) is the catalog's and the settings' to say. A record that belongs to nothing known
is kept with the reason why it does not count. Source: metrics.md section 4, rows 8 to 11 and 13 to 17.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import duckdb

from analytics.catalog import Catalog
from analytics.delivery.queries import create_tables, sql
from analytics.delivery.since import Since
from analytics.delivery.update import derived_again
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.globs import name_matches
from analytics.lake.schemas import TABLES as LAKE_TABLES
from analytics.lake.tables import clear_table
from analytics.lake.updating import count_rows, replace_rows
from analytics.periods import Calendar
from analytics.settings import PracticeRules, Settings

# What a passed check, job or drill is called; feeds come from many tools.
PASSED = ("success", "successful", "succeeded", "passed", "pass", "ok")
# What several of the queries below read, in this order.
STEPS = (
    "named_elsewhere",
    "labelled_incidents",
    "budget_samples",
    "budget_windows",
    "budget_points",
)
TABLES = (
    "rollback_drills",
    "runbook_changes",
    "deployment_checks",
    "budget_impacts",
    "gate_outcomes",
    "manual_interventions",
    "drift_incidents",
    "survey_answers",
    "template_adoption",
)
# What a table's rows all come from; with no row in any of these it has none, and no deployment is looked at for it.
COME_FROM = {
    "rollback_drills": ("drills",),
    "runbook_changes": ("runbook_changed",),
    "deployment_checks": ("checks", "verifying_jobs"),
    "gate_outcomes": ("gate_results",),
    "drift_incidents": ("labelled_incidents",),
    "survey_answers": ("survey_responses",),
    "template_adoption": ("standard_templates",),
}


RUNBOOK_PATHS = ("service", "purpose", "repository", "path", "plain")


def quarter_rows(calendar: Calendar, rules: PracticeRules, first: date, today: date) -> list[dict[str, Any]]:
    """Rows of `quarters`: each that has begun, cut after today, and since when drills and changes of runbooks count."""
    rows = []
    for quarter in calendar.quarters_between(calendar.quarter_of_day(first), calendar.quarter_of_day(today)):
        start, end = calendar.days(quarter)
        after = min(end, today + timedelta(days=1))
        rows.append(
            {
                "quarter": str(quarter),
                "first_day": start,
                "last_day": after - timedelta(days=1),
                "drills_from": after - timedelta(days=rules.drill_window_days),
                "runbooks_from": months_before(after, rules.runbook_months),
            }
        )
    return rows


def months_before(day: date, months: int) -> date:
    """The same day so many calendar months earlier, or the last day of a shorter month."""
    index = day.year * 12 + day.month - 1 - months
    year, month = divmod(index, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return date(year, month + 1, min(day.day, (following - timedelta(days=1)).day))


def runbook_rows(con: duckdb.DuckDBPyConnection, engine: Engine, catalog: Catalog) -> list[dict[str, Any]]:
    """Rows of `service_runbooks`; leaves the tables `runbook_paths` and `runbook_changed` behind on the engine.

    A repository's files are watched when a source reads their revisions, or when its commits say which files they
    changed. Only the former can tell that a file is not there.
    """
    paths = [
        (service.name, purpose, service.repository, path, _plain(path))
        for service in catalog.services
        for purpose, named in (("runbook", service.runbooks), ("rollback", [service.rollback.runbook]))
        for path in dict.fromkeys(named)
        if path
    ]
    engine.create_values("runbook_paths", dict.fromkeys(RUNBOOK_PATHS, "VARCHAR"), paths)
    if not paths:
        # Nobody looks through the files of all commits for a runbook that nobody names.
        engine.create_values("runbook_changed", LAKE_TABLES["runbook_changes"].columns, [])
        return []
    engine.create_unnested("earlier_revisions", "file_revisions", ["repository", "path"], "earlier", "change")
    engine.create_unnested("commit_files", "commits", ["repository", "sha", "committed_at"], "files", "file")
    create_tables(engine, "runbook_changed")
    found = set(engine.rows("SELECT DISTINCT service, purpose, path FROM runbook_changed"))
    by_files = _names(engine, "SELECT DISTINCT lower(repository) AS folded FROM commits WHERE files IS NOT NULL")
    asked = con.execute(
        "SELECT DISTINCT source, request_key FROM landed_pages WHERE entity = 'file_revisions'"
    ).fetchall()
    # Git is asked by a repository's name, hosts by its id; the file of a feed is named like no repository.
    by_source = {key.casefold() for _, key in asked}
    for source, text in con.execute("SELECT source, value FROM landed_meta WHERE key = 'names'").fetchall():
        by_source |= {name.casefold() for key, name in json.loads(text).items() if (source, key) in asked}
    told = by_source | by_files | _names(engine, "SELECT DISTINCT lower(repository) AS folded FROM file_revisions")
    rows = []
    for service, purpose, repository, path, _ in paths:
        folded = repository.casefold()
        seen = (service, purpose, path) in found
        rows.append(
            {
                "service": service,
                "purpose": purpose,
                "repository": repository,
                "path": path,
                "state": "found" if seen else "not_found" if folded in by_source else "declared",
                "watched": folded in told,
            }
        )
    return rows


def _names(engine: Engine, query: str) -> set[str]:
    return {row[0] for row in engine.rows(query)}


def _plain(path: str) -> str:
    return path.removeprefix("./").strip("/")


def practice_facts(
    engine: Engine,
    settings: Settings,
    catalog: Catalog,
    canonical: Callable[[str], str],
    written: dict[str, int],
    since: Since | None = None,
) -> None:
    """Write the tables of this module; needs the typed tables, the prelude, `runbook_changed` and delivery's facts.

    `canonical` gives the catalog's spelling of a repository; `written` gets the number of rows per table. With `since`
    the facts were updated (`update_facts`), and of error budgets only what that derived again is made.
    """
    rules = settings.practices
    engine.read_lake(
        "services", "service_deployments", "deployment_attempts", "service_incidents", "run_attempts", "job_times"
    )
    engine.create_unnested("incident_labels", "incidents", ["incident_id"], "labels", "label")
    engine.create_unnested(
        "service_incident_ids", "service_incidents", ["service", "incident_key"], "incident_ids", "incident_id"
    )
    engine.create_unnested(
        "called_templates",
        "pipeline_runs",
        ["repository", "run_id", "workflow", "created_at"],
        "referenced_workflows",
        "template",
    )
    engine.create_values("passed_words", {"word": "VARCHAR"}, [(word,) for word in PASSED])
    engine.create_values("known_services", {"service": "VARCHAR"}, [(service.name,) for service in catalog.services])
    create_tables(engine, "deployment_runs")
    _match_names(engine, rules)
    _match_repositories(engine, catalog, canonical)
    _match_labels(engine, rules)
    _match_teams(engine, catalog)
    _match_templates(engine, settings)
    window = round(rules.budget_window_hours * 3_600_000_000)
    engine.create_values("budget_window", {"span_us": "BIGINT"}, [(window,)])
    # Names of all deployments, which only checks are compared with.
    engine.create_shared("named_deployments", sql("named_deployments.sql"))
    renewed = _budgets_again(engine, since) if since else None
    engine.create_view(
        "budget_deployments", f"SELECT kept.* FROM service_deployments AS kept WHERE {renewed or 'true'}"
    )
    checked = _any_rows(engine, COME_FROM["deployment_checks"])
    create_tables(engine, *(step for step in STEPS if checked or step != "named_elsewhere"))
    for table in TABLES:
        query = "SELECT * FROM runbook_changed" if table == "runbook_changes" else sql(f"{table}.sql")
        if table == "budget_impacts" and renewed:
            assert isinstance(engine, DuckEngine)
            replace_rows(engine.con, settings, table, leaving=renewed, coming=query)
            written[table] = count_rows(engine.con, settings, table)
        elif table not in COME_FROM or _any_rows(engine, COME_FROM[table]):
            written[table] = engine.write_lake(table, query)
        else:
            clear_table(settings, table)
            written[table] = 0
        engine.read_lake(table)
    for table in ("named_deployments", *STEPS):
        engine.drop(table)


def _budgets_again(engine: Engine, since: Since) -> str:
    """A condition on a deployment, or on a row of its budget: it was derived again, or a sample speaks of its service.

    The windows of a service with an objective move with the cut-off, all of them.
    """
    told = "SELECT service FROM slo_samples"
    if "slo_samples" in since.entities:
        told += " UNION SELECT service FROM slo_samples_before"
    engine.create_table("budget_services", f"SELECT DISTINCT service FROM ({told}) AS told")
    return f"({derived_again('deployment_key')} OR kept.service IN (SELECT service FROM budget_services))"


def _any_rows(engine: Engine, tables: Iterable[str]) -> bool:
    return any(engine.rows(f"SELECT DISTINCT 1 AS one FROM {table}") for table in tables)


def _match_names(engine: Engine, rules: PracticeRules) -> None:
    """Which kinds of checks and which names of jobs verify a deployment."""
    kinds = engine.rows("SELECT DISTINCT kind FROM checks")
    engine.create_values(
        "verifying_kinds", {"kind": "VARCHAR"}, [row for row in kinds if name_matches(row[0], rules.check_kinds)]
    )
    # Names of jobs in runs that deployed; all jobs are too many to look at one by one.
    jobs = engine.rows(
        "SELECT DISTINCT jobs.name AS name FROM job_times AS jobs "
        "JOIN (SELECT DISTINCT run_id FROM deployment_runs) AS runs ON runs.run_id = jobs.run_id"
    )
    engine.create_values(
        "verifying_jobs", {"name": "VARCHAR"}, [row for row in jobs if name_matches(row[0], rules.check_jobs)]
    )


def _match_repositories(engine: Engine, catalog: Catalog, canonical: Callable[[str], str]) -> None:
    """Repositories that gates speak of: their spelling in the catalog, and their service where they have only one."""
    rows = []
    for (seen,) in engine.rows("SELECT DISTINCT repository FROM gate_results"):
        services = catalog.of_repository(seen)
        rows.append((seen, canonical(seen), bool(services), services[0].name if len(services) == 1 else None))
    engine.create_values(
        "gate_repositories",
        {"seen": "VARCHAR", "canonical": "VARCHAR", "known": "BOOLEAN", "only_service": "VARCHAR"},
        rows,
    )


def _match_labels(engine: Engine, rules: PracticeRules) -> None:
    labels = engine.rows("SELECT DISTINCT label FROM incident_labels WHERE label IS NOT NULL")
    engine.create_values(
        "drift_labels", {"label": "VARCHAR"}, [row for row in labels if name_matches(row[0], rules.drift_labels)]
    )


def _match_teams(engine: Engine, catalog: Catalog) -> None:
    teams = {service.team.casefold(): service.team for service in catalog.services if service.team}
    seen = _names(engine, "SELECT DISTINCT team FROM survey_responses WHERE team IS NOT NULL")
    engine.create_values(
        "team_names",
        {"seen": "VARCHAR", "team": "VARCHAR"},
        [(name, teams[name.casefold()]) for name in seen if name.casefold() in teams],
    )


def _match_templates(engine: Engine, settings: Settings) -> None:
    """Which workflows that runs call are standard templates of their repository."""
    globs = settings.practices.templates
    called = engine.rows("SELECT DISTINCT repository, template FROM called_templates")
    engine.create_values(
        "standard_templates",
        {"repository": "VARCHAR", "template": "VARCHAR"},
        [(name, template) for name, template in called if _is_standard(name, template, globs)],
    )


def _is_standard(repository: str, template: str, globs: Iterable[str]) -> bool:
    if globs:
        return name_matches(template, globs) or name_matches(template.split("@", 1)[0], globs)
    return not template.startswith("./") and not template.casefold().startswith(f"{repository.casefold()}/")
