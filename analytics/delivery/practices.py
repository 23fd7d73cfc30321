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
from analytics.delivery.queries import insert_rows, sql
from analytics.globs import name_matches
from analytics.lake.tables import create_views, write_table
from analytics.periods import Calendar
from analytics.settings import PracticeRules, Settings

# What a passed check, job or drill is called; feeds come from many tools.
PASSED = ("success", "successful", "succeeded", "passed", "pass", "ok")
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


def runbook_rows(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> list[dict[str, Any]]:
    """Rows of `service_runbooks`; leaves the temporary tables `runbook_paths` and `runbook_changed` behind.

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
    con.execute(
        "CREATE OR REPLACE TEMP TABLE runbook_paths "
        "(service VARCHAR, purpose VARCHAR, repository VARCHAR, path VARCHAR, plain VARCHAR)"
    )
    insert_rows(con, "runbook_paths", paths)
    for statement in sql("runbook_changes.sql").split(";"):
        if statement.strip():
            con.execute(statement)
    found = set(con.execute("SELECT DISTINCT service, purpose, path FROM runbook_changed").fetchall())
    by_files = _names(con, "SELECT DISTINCT lower(repository) FROM commits WHERE files IS NOT NULL")
    asked = con.execute(
        "SELECT DISTINCT source, request_key FROM landed_pages WHERE entity = 'file_revisions'"
    ).fetchall()
    # Git is asked by a repository's name, hosts by its id; the file of a feed is named like no repository.
    by_source = {key.casefold() for _, key in asked}
    for source, text in con.execute("SELECT source, value FROM landed_meta WHERE key = 'names'").fetchall():
        by_source |= {name.casefold() for key, name in json.loads(text).items() if (source, key) in asked}
    told = by_source | by_files | _names(con, "SELECT DISTINCT lower(repository) FROM file_revisions")
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


def _names(con: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    return {row[0] for row in con.execute(query).fetchall()}


def _plain(path: str) -> str:
    return path.removeprefix("./").strip("/")


def practice_facts(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    catalog: Catalog,
    canonical: Callable[[str], str],
    written: dict[str, int],
) -> None:
    """Write the tables of this module; needs the typed tables, `params`, `local_day` and the facts of delivery.

    `canonical` gives the catalog's spelling of a repository; `written` gets the number of rows per table.
    """
    rules = settings.practices
    create_views(
        con, settings, "services", "service_deployments", "deployment_attempts", "service_incidents", "run_attempts"
    )
    con.execute("CREATE OR REPLACE TEMP TABLE passed_words AS SELECT unnest(?::VARCHAR[]) AS word", [list(PASSED)])
    con.execute(
        "CREATE OR REPLACE TEMP TABLE known_services AS SELECT unnest(?::VARCHAR[]) AS service",
        [[service.name for service in catalog.services]],
    )
    _match_names(con, rules)
    _match_repositories(con, catalog, canonical)
    _match_labels(con, rules)
    _match_teams(con, catalog)
    _match_templates(con, settings)
    window = round(rules.budget_window_hours * 3_600_000_000)
    con.execute("CREATE OR REPLACE TEMP TABLE budget_window AS SELECT to_microseconds(?::BIGINT) AS span", [window])
    for table in TABLES:
        query = "SELECT * FROM runbook_changed" if table == "runbook_changes" else sql(f"{table}.sql")
        written[table] = write_table(con, settings, table, query)
        create_views(con, settings, table)


def _match_names(con: duckdb.DuckDBPyConnection, rules: PracticeRules) -> None:
    """Which kinds of checks and which names of jobs verify a deployment."""
    kinds = con.execute("SELECT DISTINCT kind FROM checks").fetchall()
    con.execute("CREATE OR REPLACE TEMP TABLE verifying_kinds (kind VARCHAR)")
    insert_rows(con, "verifying_kinds", [row for row in kinds if name_matches(row[0], rules.check_kinds)])
    # Names of jobs in runs that deployed; all jobs are too many to look at one by one.
    jobs = con.execute(
        "SELECT DISTINCT name FROM job_times SEMI JOIN (SELECT DISTINCT run_id FROM deployment_attempts) USING (run_id)"
    ).fetchall()
    con.execute("CREATE OR REPLACE TEMP TABLE verifying_jobs (name VARCHAR)")
    insert_rows(con, "verifying_jobs", [row for row in jobs if name_matches(row[0], rules.check_jobs)])


def _match_repositories(con: duckdb.DuckDBPyConnection, catalog: Catalog, canonical: Callable[[str], str]) -> None:
    """Repositories that gates speak of: their spelling in the catalog, and their service where they have only one."""
    rows = []
    for (seen,) in con.execute("SELECT DISTINCT repository FROM gate_results").fetchall():
        services = catalog.of_repository(seen)
        rows.append((seen, canonical(seen), bool(services), services[0].name if len(services) == 1 else None))
    con.execute(
        "CREATE OR REPLACE TEMP TABLE gate_repositories "
        "(seen VARCHAR, canonical VARCHAR, known BOOLEAN, only_service VARCHAR)"
    )
    insert_rows(con, "gate_repositories", rows)


def _match_labels(con: duckdb.DuckDBPyConnection, rules: PracticeRules) -> None:
    labels = con.execute("SELECT DISTINCT unnest(labels) FROM incidents").fetchall()
    con.execute("CREATE OR REPLACE TEMP TABLE drift_labels (label VARCHAR)")
    insert_rows(con, "drift_labels", [row for row in labels if name_matches(row[0], rules.drift_labels)])


def _match_teams(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    teams = {service.team.casefold(): service.team for service in catalog.services if service.team}
    seen = _names(con, "SELECT DISTINCT team FROM survey_responses WHERE team IS NOT NULL")
    con.execute("CREATE OR REPLACE TEMP TABLE team_names (seen VARCHAR, team VARCHAR)")
    insert_rows(con, "team_names", [(name, teams[name.casefold()]) for name in seen if name.casefold() in teams])


def _match_templates(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Which workflows that runs call are standard templates of their repository."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE called_workflows AS SELECT DISTINCT repository, template FROM "
        "(SELECT repository, unnest(referenced_workflows) AS template FROM pipeline_runs "
        "WHERE len(referenced_workflows) > 0)"
    )
    called = con.execute("SELECT repository, template FROM called_workflows").fetchall()
    globs = settings.practices.templates
    con.execute("CREATE OR REPLACE TEMP TABLE standard_templates (repository VARCHAR, template VARCHAR)")
    insert_rows(
        con,
        "standard_templates",
        [(name, template) for name, template in called if _is_standard(name, template, globs)],
    )


def _is_standard(repository: str, template: str, globs: Iterable[str]) -> bool:
    if globs:
        return name_matches(template, globs) or name_matches(template.split("@", 1)[0], globs)
    return not template.startswith("./") and not template.casefold().startswith(f"{repository.casefold()}/")
