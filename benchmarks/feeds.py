"""A seeded organisation of any size, given by SQL alone: as Parquet feeds, or as rows for whoever writes tables.

Runs, commits and deployments per service follow a power law, histories branch and merge, one deployment in fifty goes
back. Nothing here is drawn row by row: a value is a function of the seed and of the row's place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb

FIRST_DAY, LAST_DAY = "2024-10-01", "2026-09-30"
NOW = "2026-10-01T06:00:00Z"
# How much less the next service has than the one before it: rank ** -0.8.
POWER = 0.8
# A history is made of blocks of ten commits; deployments take the last of each five, which is on the main line.
BLOCK = 10
PARTS = 8


@dataclass(frozen=True)
class Size:
    """How many rows of each kind; what is not asked for follows from the run attempts."""

    attempts: int
    services: int = 500

    @property
    def commits(self) -> int:
        """About ten run attempts a commit."""
        return self.attempts // 10

    @property
    def deployments(self) -> int:
        """One deployment for five commits."""
        return self.commits // 5

    @property
    def incidents(self) -> int:
        """One incident for ten deployments."""
        return self.deployments // 10

    @property
    def tenth(self) -> Size:
        """The same organisation with a tenth of the rows."""
        return Size(self.attempts // 10, self.services)


def write_settings(folder: Path, size: Size, memory: str = "2GB") -> Path:
    """Write the settings and the catalog of an organisation; returns the settings file."""
    folder.mkdir(parents=True)
    settings = {
        "organization": "Benchmark",
        "time_zone": "Europe/Berlin",
        "now": NOW,
        "storage": "./storage",
        "catalog": "catalog.yaml",
        "engine": {"memory_limit": memory},
        "sources": [{"name": "drops", "type": "files", "path": "./feeds"}],
    }
    services = [dict(zip(("name", "repository", "team"), _names(n), strict=True)) for n in range(size.services)]
    # JSON is YAML.
    (folder / "quarterdeck.yaml").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    (folder / "catalog.yaml").write_text(json.dumps({"services": services}, indent=1), encoding="utf-8")
    return folder / "quarterdeck.yaml"


def write_feeds(folder: Path, size: Size, seed: int) -> dict[str, int]:
    """Write `feeds/ENTITY/NN.parquet`, a file per entity and eighth of the time; returns the rows of each entity."""
    feeds = folder / "feeds"
    rows: dict[str, int] = {}
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / ".spill")}) as con:
        con.execute("SET TimeZone = 'UTC'")
        create_world(con, size, seed)
        for name in ENTITIES:
            for part in range(PARTS):
                path = feeds / name / f"{part + 1:02d}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                literal = str(path).replace("'", "''")
                (written,) = con.execute(
                    f"COPY ({query_of(name, part)}) TO '{literal}' (FORMAT parquet, COMPRESSION zstd)"
                ).fetchall()[0]
                rows[name] = rows.get(name, 0) + int(written)
    return rows


def create_world(con: duckdb.DuckDBPyConnection, size: Size, seed: int) -> None:
    """Create the tables and macros that `query_of` needs: services with their counts, time and chance.

    The same seed and size give the same rows, however many threads and however much memory there are.
    """
    _create_services(con, size)
    con.execute(
        "CREATE TABLE world AS SELECT ?::BIGINT AS seed, ?::TIMESTAMPTZ AS start, "
        "epoch_us(?::TIMESTAMPTZ) - epoch_us(?::TIMESTAMPTZ) AS span_us",
        [seed, FIRST_DAY, LAST_DAY, FIRST_DAY],
    )
    # A number in [0, 1) for a place; salts keep the columns of one row apart.
    con.execute(
        "CREATE MACRO chance(salt, service, number) AS "
        "(hash(salt, service, number, (SELECT seed FROM world)) % 1000000) / 1000000.0"
    )
    con.execute("CREATE MACRO sha_of(service, number) AS sha1(service || '/' || number)")
    con.execute("CREATE MACRO later(moment, seconds) AS moment + to_microseconds((1e6 * seconds)::BIGINT)")
    # Share of the organisation's two years, as a time.
    con.execute(
        "CREATE MACRO at_share(share) AS (SELECT start FROM world) + "
        "to_microseconds(((SELECT span_us FROM world) * share)::BIGINT)"
    )
    # The places of one part: an eighth of each service's time.
    con.execute(f"CREATE MACRO part_of(part, total) AS range(total * part // {PARTS}, total * (part + 1) // {PARTS})")


def query_of(entity: str, part: int | None = None) -> str:
    """The SELECT for an eighth of an entity's rows, or for all of them; their numbers alone stand in memory."""
    if part is None:
        return " UNION ALL BY NAME ".join(f"({query_of(entity, part)})" for part in range(PARTS))
    return _QUERIES[entity].replace("part_of(", f"part_of({part}, ")


def _names(number: int) -> tuple[str, str, str]:
    """A service, its repository and its team."""
    return f"service-{number:04d}", f"bench/service-{number:04d}", f"team-{number % 50:02d}"


def _shares(total: int, services: int, multiple_of: int = 1) -> list[int]:
    """A total over services by the power law, each a multiple; the greatest takes what rounding leaves."""
    weights = [rank**-POWER for rank in range(1, services + 1)]
    units = total // multiple_of
    counts = [int(weight / sum(weights) * units) for weight in weights]
    counts[0] += units - sum(counts)
    return [count * multiple_of for count in counts]


def _create_services(con: duckdb.DuckDBPyConnection, size: Size) -> None:
    commits = _shares(size.commits, size.services, BLOCK)
    con.execute(
        "CREATE TABLE services (service VARCHAR, repository VARCHAR, team VARCHAR, commits BIGINT, deployments BIGINT, "
        "attempts BIGINT, incidents BIGINT)"
    )
    con.execute(
        f"INSERT INTO services SELECT {', '.join(['unnest(?)'] * 7)}",
        [
            *zip(*(_names(n) for n in range(size.services)), strict=True),
            commits,
            [count // 5 for count in commits],
            _shares(size.attempts, size.services),
            _shares(size.incidents, size.services),
        ],
    )


# Places in a block of ten: 0, 4, 5, 8, 9 are the main line, 1-3 a branch merged by 5, and 6-7 a branch that began in
# the block before and is merged by 9. Four blocks in ten are straight instead.
_PLACES = """
    SELECT service, repository, commits, number, number % 10 AS place,
           chance('straight', service, number // 10) < 0.4 AS straight
    FROM (SELECT *, unnest(part_of(commits)) AS number FROM services)
"""
_PARENTS = """
    CASE WHEN number = 0 THEN []
         WHEN straight OR place = 0 THEN [number - 1]
         WHEN place IN (1, 2, 3, 7) THEN [number - 1]
         WHEN place = 4 THEN [number - 4]
         WHEN place = 5 THEN [number - 1, number - 2]
         WHEN place = 6 THEN [greatest(number - 11, 0)]
         WHEN place = 8 THEN [number - 3]
         ELSE [number - 1, number - 2] END
"""

_QUERIES = {
    "commits": f"""
        SELECT repository, sha_of(service, number) AS sha,
               list_transform({_PARENTS}, lambda parent: sha_of(service, parent)) AS parents,
               CASE WHEN chance('author', service, number) < 0.08 THEN 'renovate[bot]'
                    ELSE 'person-' || (hash('author', service, number) % 40) END AS author,
               later(committed_at, -chance('age', service, number) * 200000) AS authored_at,
               committed_at,
               'Change ' || number || CASE WHEN chance('revert', service, number) < 0.005 AND number > 20
                   THEN E'\\n\\nThis reverts commit ' || sha_of(service, number - 7) || '.' ELSE '' END AS message
        FROM (SELECT *, at_share((number + chance('at', service, number)) / commits) AS committed_at FROM ({_PLACES}))
    """,
    "pull_requests": f"""
        SELECT repository, number AS number, 'Change ' || number AS title,
               CASE WHEN chance('label', service, number) < 0.02 THEN ['hotfix'] ELSE [] END AS labels,
               later(merged_at, -90000) AS created_at, later(merged_at, -50000) AS first_review_at,
               later(merged_at, -4000) AS approved_at, merged_at,
               sha_of(service, number) AS merge_commit_sha,
               [sha_of(service, number - 4), sha_of(service, number - 3), sha_of(service, number - 2)] AS commits,
               'feature/' || number AS head_ref
        FROM (SELECT *, at_share((number + chance('at', service, number)) / commits) AS merged_at FROM ({_PLACES}))
        WHERE place = 5 AND NOT straight
    """,
    "deployments": """
        SELECT service || '-' || number AS deployment_id, 1 AS attempt, service, repository,
               'production' AS environment,
               sha_of(service, 5 * (CASE WHEN back AND number > 2 THEN number - 2 ELSE number END) + 4) AS sha,
               CASE WHEN chance('outcome', service, number) < 0.04 THEN 'failure' ELSE 'success' END AS status,
               later(finished_at, -900) AS created_at, later(finished_at, -600) AS started_at, finished_at,
               'person-' || (number % 40) AS creator
        FROM (SELECT *, chance('back', service, number) < 0.02 AS back,
                     at_share((5 * number + 5 + 3 * chance('lag', service, number)) / (commits + 10)) AS finished_at
              FROM (SELECT *, unnest(part_of(deployments)) AS number FROM services))
    """,
    "incidents": """
        SELECT service || '-i' || number AS incident_id, service, 'Incident ' || number AS title,
               'sev' || (1 + number % 4) AS severity, opened_at,
               CASE WHEN chance('open', service, number) > 0.02
                    THEN later(opened_at, 600 + chance('long', service, number) * 30000) END AS resolved_at,
               CASE WHEN chance('named', service, number) < 0.3 THEN service || '-' || deployment END AS deployment_id
        FROM (SELECT *, at_share((5 * deployment + 9) / (commits + 10)) AS opened_at
              FROM (SELECT *, (number * deployments // greatest(incidents, 1)) AS deployment
                    FROM (SELECT *, unnest(part_of(incidents)) AS number FROM services)))
    """,
    # The last attempt of each twenty is the second one of the run before it, whose first attempt failed.
    "pipeline_runs": """
        SELECT repository, run AS run_id, 1 + number - run AS attempt,
               '.github/workflows/' || ['test', 'lint', 'package', 'scan', 'docs'][1 + (run // 20) % 5] || '.yml'
                   AS workflow,
               CASE WHEN run % 3 = 0 THEN 'pull_request' ELSE 'push' END AS event,
               sha_of(service, run * commits // attempts) AS head_sha,
               CASE WHEN run % 3 = 0 THEN 'feature/' || (run // 40) ELSE 'main' END AS head_branch,
               'completed' AS status,
               CASE WHEN number % 20 = 18 THEN 'failure' WHEN luck < 0.86 THEN 'success' WHEN luck < 0.94 THEN 'failure'
                    WHEN luck < 0.98 THEN 'cancelled' WHEN luck < 0.99 THEN 'timed_out' ELSE 'skipped' END
                   AS conclusion,
               at_share(run / attempts) AS created_at, later(began_at, 5) AS started_at,
               later(began_at, 60 + luck * 1500) AS completed_at, 'person-' || (run % 40) AS actor
        FROM (SELECT *, number - (number % 20 = 19)::BIGINT AS run, chance('luck', service, number) AS luck,
                     at_share(number / attempts) AS began_at
              FROM (SELECT *, unnest(part_of(attempts)) AS number FROM services))
    """,
    # One attempt in five has its job recorded: durations and queues come from jobs.
    "pipeline_jobs": """
        SELECT repository, number - (number % 20 = 19)::BIGINT AS run_id, 1 + (number % 20 = 19)::BIGINT AS attempt,
               number AS job_id, 'test' AS name, 'completed' AS status,
               CASE WHEN luck < 0.9 THEN 'success' ELSE 'failure' END AS conclusion, created_at,
               later(created_at, CASE WHEN luck < 0.01 THEN -3000 ELSE 3 + 60 * luck * luck END) AS started_at,
               later(created_at, 70 + luck * 1500) AS completed_at,
               'runner-' || (hash(number, service) % 2000) AS runner, ['linux', 'x64'] AS runner_labels
        FROM (SELECT *, chance('luck', service, number) AS luck, at_share(number / attempts) AS created_at
              FROM (SELECT *, unnest(part_of(attempts)) AS number FROM services) WHERE number % 5 = 4)
    """,
}

ENTITIES = tuple(_QUERIES)
