"""A published database with invented values, for tests of the reports; the same seed gives the same bytes."""

from __future__ import annotations

import json
import random
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from analytics.lake.schemas import FACT_TABLES
from analytics.periods import Quarter
from analytics.settings import Settings
from analytics.statistics import wilson

QUARTER = Quarter(2026, 3)
NOW = datetime(2026, 10, 5, 6, tzinfo=UTC)
HOUR_US = 3_600_000_000

DEFINITIONS = (
    # metric, title, unit, direction, statistic, minimum_n
    ("deployment_frequency", "Deployment frequency", "per_day", "higher", "rate", None),
    ("change_lead_time", "Change lead time", "hours", "lower", "median", 6),
    ("change_lead_time_p75", "Change lead time, 75th percentile", "hours", "lower", "p75", 13),
    ("change_lead_time_p95", "Change lead time, 95th percentile", "hours", "lower", "p95", 20),
    ("change_fail_rate", "Change fail rate", "ratio", "lower", "ratio", None),
    ("change_fail_rate_changes_only", "Change fail rate, changes only", "ratio", "lower", "ratio", None),
    ("failed_deployment_recovery_time", "Failed deployment recovery time", "hours", "lower", "median", 6),
    ("deployment_rework_rate", "Deployment rework rate", "ratio", "lower", "ratio", None),
    ("pipeline_success_rate", "Pipeline success rate, first attempt", "ratio", "higher", "ratio", None),
    ("pipeline_duration_median", "Pipeline duration, median", "minutes", "lower", "median", 6),
    ("queue_time_median", "Queue time, median", "minutes", "lower", "median", 6),
    ("config_drift_incidents", "Configuration drift incidents", "count", "lower", "count", None),
    ("manual_interventions_per_deployment", "Manual interventions per deployment", "ratio", "lower", "ratio", None),
    ("policy_compliance_rate", "Policy compliance rate", "ratio", "higher", "ratio", None),
)

_POLARS = {
    "VARCHAR": pl.String,
    "BIGINT": pl.Int64,
    "DOUBLE": pl.Float64,
    "BOOLEAN": pl.Boolean,
    "DATE": pl.Date,
    "TIMESTAMP": pl.Datetime("us"),
    "VARCHAR[]": pl.List(pl.String),
}


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """A naive UTC time, as the stores hold it."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC).replace(tzinfo=None)


@dataclass
class World:
    """Rows by table; `value` adds a metric value with plain defaults."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    snapshot: dict[str, str] = field(
        default_factory=lambda: {
            "snapshot_id": "5f3a9c1e7b20",
            "code_version": "0.1.0",
            "cut_off": "2026-10-05T06:00:00Z",
            "time_zone": "Europe/Berlin",
            "organization": "Acme",
            "definitions_version": "2026-07",
        }
    )

    def add(self, table: str, **row: Any) -> None:
        self.rows.setdefault(table, []).append(row)

    def value(self, metric: str, value: float | None, quarter: str = str(QUARTER), **more: Any) -> None:
        unit = next(d[2] for d in DEFINITIONS if d[0] == metric)
        series = "human" if metric.startswith("change_lead_time") else None
        row = {
            "metric": metric,
            "scope": "organization",
            "name": "Acme",
            "quarter": quarter,
            "series": series,
            "value": value,
            "unit": unit,
            "open": 0,
            "definition": f"{metric}@1",
            "excluded": "{}",
        }
        self.add("metric_values", **{**row, **more})

    def share(self, metric: str, k: int, n: int, quarter: str = str(QUARTER), **more: Any) -> None:
        low, high = wilson(k, n)
        self.value(metric, k / n, quarter, n=n, numerator=k, denominator=n, low=low, high=high, **more)

    def finding(self, id: str, **more: Any) -> None:
        """A finding with plain defaults."""
        row = {
            "id": id,
            "rule": "signer",
            "verdict": "UNTRUSTED_SIGNER",
            "severity": "high",
            "state": "open",
            "service": "checkout",
            "deployment_id": "4711",
            "digest": f"sha256:{'a' * 64}",
            "join_kind": "record",
            "bundle_sha256": "b" * 64,
            "reason": "It was signed by another workflow.",
            "remediation": "Let a workflow sign that the policy names.",
            "owner": "payments",
            "first_seen": utc(2026, 8, 1, 9),
            "last_seen": utc(2026, 10, 5, 6),
        }
        self.add("findings", **{**row, **more})

    def hostile(self, name: str) -> None:
        """Rows in which everything that a feed can name has one name."""
        day = date(2026, 7, 8)
        at = utc(2026, 7, 8)
        self.add(
            "service_incidents",
            service=name,
            incident_key=name,
            title=name,
            severity=name,
            opened_at=at,
            opened_day=day,
            linked=False,
            unlinked_reason=name,
            url="javascript:alert(1)",
        )
        self.add(
            "service_deployments",
            service=name,
            deployment_key=name,
            outcome="success",
            created_at=at,
            finished_at=at,
            day=day,
            kind="change",
            failed=True,
            failure_method="explicit",
            failure_evidence=name,
            warning=name,
        )
        self.add(
            "change_lead",
            service=name,
            deployment_key=name,
            repository=name,
            sha=name,
            finished_at=at,
            day=day,
            lead_us=999 * HOUR_US,
        )
        self.add(
            "run_attempts",
            repository=name,
            run_id=name,
            attempt=1,
            workflow=name,
            counted=True,
            succeeded=False,
            is_first=True,
            day=day,
            lost_us=30 * HOUR_US,
        )
        self.finding(
            name,
            rule=name,
            verdict=name,
            service=name,
            deployment_id=name,
            digest=name,
            reason=name,
            expected=name,
            found=name,
            remediation=name,
            owner=name,
            component=name,
            policy=name,
            waiver=f"waivers.yaml:1: {name}, until 2026-12-31: {name}",
        )
        self.add("unmapped", kind="environment", name=name, detail=name, rows=1)
        self.add("quarantine", source="drops", entity="deployments", origin=name, line=1, reason=name, detail=name)


def settings_of(storage: Path, **more: Any) -> Settings:
    """Settings of the invented organisation."""
    return Settings.model_validate(
        {
            "organization": "Acme",
            "time_zone": "Europe/Berlin",
            "storage": storage,
            "targets": {"change_lead_time": 24, "change_fail_rate": 0.15},
            # Printing takes seconds: the tests that look at prints ask for them.
            "reports": {"owner": "Delivery insights", "printed": []},
            **more,
        }
    )


def publish(settings: Settings, world: World) -> None:
    """Write a world as the published database, replacing an earlier one."""
    settings.published_path.parent.mkdir(parents=True, exist_ok=True)
    settings.published_path.unlink(missing_ok=True)
    calendar = settings.calendar
    definitions = [
        {
            "metric": metric,
            "title": title,
            "unit": unit,
            "direction": direction,
            "statistic": statistic,
            "minimum_n": minimum_n,
            "definition": f"What {title.lower()} counts, in words.",
            "version": 1,
            "sources": "deployments, commits",
        }
        for metric, title, unit, direction, statistic, minimum_n in DEFINITIONS
    ]
    with duckdb.connect(str(settings.published_path)) as con:
        for table in FACT_TABLES.values():
            columns = ", ".join(f'"{name}" {kind}' for name, kind in table.columns.items())
            con.execute(f"CREATE TABLE {table.name} ({columns})")
            rows = definitions if table.name == "metric_definitions" else world.rows.get(table.name, [])
            unknown = {key for row in rows for key in row} - set(table.columns)
            assert not unknown, f"{table.name} has no column {unknown}"
            if rows:
                # Through Parquet: bound values would take most of a test's time.
                file = settings.published_path.with_suffix(".parquet")
                schema = {name: _POLARS[kind] for name, kind in table.columns.items()}
                pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema).write_parquet(
                    file
                )
                con.execute(f"INSERT INTO {table.name} SELECT * FROM read_parquet(?)", [str(file)])
                file.unlink()
        first, _ = calendar.days(QUARTER.plus(-9))
        _, end = calendar.days(QUARTER.plus(1))
        days = [first + timedelta(days=n) for n in range((end - first).days)]
        con.execute(
            f"INSERT INTO calendar VALUES {', '.join('(?, ?, ?, ?)' for _ in days)}",
            [
                cell
                for day in days
                for cell in (day, str(calendar.quarter_of_day(day)), f"{day:%Y-%m}", f"{day:%G-W%V}")
            ],
        )
        for key, value in world.snapshot.items():
            con.execute("INSERT INTO snapshot VALUES (?, ?)", [key, value])


def small_world() -> World:
    """Three services and one quarter: enough for every page, quick to publish."""
    world = World()
    for name, team, tier in (("checkout", "payments", 1), ("ledger", "payments", 0), ("search", None, None)):
        world.add("services", service=name, team=team, tier=tier, repository=f"acme/{name}")
    for quarter, median, failed in (("2026-Q2", 30.0, 12), ("2026-Q3", 23.5, 8)):
        world.value(
            "change_lead_time",
            median,
            quarter,
            n=412,
            low=median - 1,
            high=median + 1.25,
            reading="better" if quarter == "2026-Q3" else "too few data",
            excluded=json.dumps({"merge_commit": 14, "authored_after_deploy": 2}),
        )
        world.value("change_lead_time_p75", median * 2, quarter, n=412, low=median, high=median * 3)
        world.value("change_lead_time_p95", median * 6, quarter, n=412)
        world.share("change_fail_rate", failed, 94, quarter, reading="no clear change")
        world.value(
            "failed_deployment_recovery_time", 5.1, quarter, n=7, open=1, low=3.1, high=8.7, reading="too few data"
        )
        world.value(
            "deployment_frequency",
            94 / 92,
            quarter,
            n=94,
            numerator=94,
            denominator=92,
            low=0.8,
            high=1.3,
            reading="no clear change",
        )
    world.value("policy_compliance_rate", None, reason="no_policy")
    world.value("config_drift_incidents", 0, low=0.0, high=3.7)
    for name, k, n in (("checkout", 5, 40), ("ledger", 3, 45), ("search", 0, 9)):
        world.share("change_fail_rate", k, n, scope="service", name=name)
        world.value("change_lead_time", 20.0, scope="service", name=name, n=n, low=18.0, high=22.0)
    for number in range(94):
        finished = utc(2026, 7, 1, 9) + timedelta(hours=23 * number)
        name = "checkout" if number < 40 else "ledger" if number < 85 else "search"
        world.add(
            "service_deployments",
            service=name,
            deployment_key=f"run:{number}",
            repository=f"acme/{name}",
            outcome="success",
            created_at=finished,
            finished_at=finished,
            day=finished.date(),
            kind="change",
            resolved=number % 20 != 0,
            finish_unknown=False,
            failed=number < 8,
            failure_method="explicit" if number < 8 else None,
            failure_evidence="incident names the deployment" if number < 8 else None,
            recovery_us=5 * HOUR_US if number < 7 else None,
            recovery_open=number == 7,
        )
        world.add(
            "change_lead",
            service=name,
            deployment_key=f"run:{number}",
            repository=f"acme/{name}",
            sha=f"{number:040x}",
            is_bot=False,
            finished_at=finished,
            day=finished.date(),
            lead_us=(number + 1) * HOUR_US,
            coding_us=2 * HOUR_US,
            review_us=6 * HOUR_US,
            deploy_us=HOUR_US,
        )
    world.add(
        "failure_links",
        service="checkout",
        deployment_key="run:7",
        method="explicit",
        confidence="high",
        evidence="incident INC-7 names the deployment",
        incident_key="INC-7",
        counted=True,
        evidence_at=utc(2026, 7, 8),
        day=date(2026, 7, 8),
    )
    world.add(
        "service_incidents",
        service="checkout",
        incident_key="INC-7",
        title="Payments are slow",
        severity="sev2",
        opened_at=utc(2026, 7, 8),
        opened_day=date(2026, 7, 8),
        linked=True,
        url="https://incidents.example/INC-7",
    )
    world.add(
        "run_attempts",
        repository="acme/checkout",
        run_id="1",
        attempt=1,
        workflow="build",
        counted=True,
        succeeded=False,
        is_first=True,
        day=date(2026, 7, 8),
        lost_us=3 * HOUR_US,
    )
    world.add("collection", source="drops", entity="deployments", items=94, quarantined=1, complete=True)
    world.add(
        "quarantine",
        source="drops",
        entity="deployments",
        origin="deployments.jsonl",
        line=17,
        reason="missing_time",
        detail="created_at is missing",
    )
    world.add("unmapped", kind="environment", name="prod-eu", rows=12)
    _supply_chain_of(world)
    return world


def _supply_chain_of(world: World) -> None:
    """Four findings, a waiver that holds and one that has ended, and three deployments that were judged."""
    world.finding("signer-1", severity="high")
    world.finding(
        "signature-1", rule="signature", verdict="INVALID_SIGNATURE", severity="critical", first_seen=utc(2026, 9, 1, 9)
    )
    world.finding(
        "runner-1",
        rule="runner",
        severity="medium",
        state="waived",
        service="ledger",
        owner="Ada",
        waiver="waivers.yaml:3: Ada, until 2026-11-30: moves with the new runners, until: then",
        waived_until=date(2026, 11, 30),
    )
    world.finding(
        "ref-1",
        rule="ref",
        severity="medium",
        service="ledger",
        first_seen=utc(2026, 5, 2),
        waiver="waivers.yaml:9: Bob, expired on 2026-08-31: only for the summer",
    )
    world.finding("sbom-1", rule="sbom", severity="low", state="fixed", last_seen=utc(2026, 8, 20))
    world.finding("late-1", first_seen=utc(2026, 10, 3))
    for number, (digest, covered) in enumerate((("a" * 64, True), ("c" * 64, False), (None, False))):
        world.add(
            "deployment_provenance",
            service="checkout",
            deployment_key=f"run:{number}",
            digest=digest and f"sha256:{digest}",
            verdict="VERIFIED" if covered else "NO_ATTESTATION",
            signed=covered,
            provenance=covered,
            sbom=False,
            policy_sha256="d" * 64,
            day=date(2026, 7, 8),
        )
        world.add(
            "provenance_checks",
            service="checkout",
            deployment_key=f"run:{number}",
            name="signer",
            outcome="passed" if covered else "failed",
            day=date(2026, 7, 8),
        )
        world.add(
            "deployment_controls",
            service="checkout",
            deployment_key=f"run:{number}",
            control="separation_of_duties",
            outcome=("passed", "failed", "not_evaluated")[number],
            day=date(2026, 7, 8),
        )
    for old, new, at in ((29.5, 29.75, utc(2026, 8, 1)), (29.75, 30.0, utc(2026, 9, 1)), (28.0, 29.5, utc(2026, 6, 1))):
        world.add(
            "restatements",
            metric="change_lead_time",
            scope="organization",
            name="Acme",
            quarter="2026-Q2",
            series="human",
            definition="change_lead_time@1",
            old_value=old,
            new_value=new,
            old_n=410,
            new_n=412,
            cause="late facts",
            recorded_at=at,
        )


def large_world(services: int = 40, seed: int = 1) -> World:
    """Many services over nine quarters with trends, gaps and outliers; for looking at a pack and for its size."""
    chance = random.Random(seed)
    world = World()
    names = [f"{a}-{b}" for a in _FIRST for b in _SECOND][:services]
    while len(names) < services:
        names.append(f"service-{len(names):03d}")
    quarters = [QUARTER.plus(-back) for back in range(8, -1, -1)]
    deployed = {name: max(3, int(chance.lognormvariate(2.9, 0.8))) for name in names}
    bad = set(chance.sample(names, max(1, services // 20)))
    for index, name in enumerate(names):
        world.add("services", service=name, team=_TEAMS[index % len(_TEAMS)], tier=index % 4, repository=f"acme/{name}")
    for step, quarter in enumerate(quarters):
        _quarter_of(world, chance, str(quarter), step, deployed, bad, last=quarter == QUARTER)
    _pipelines_of(world, chance)
    _quality_of(world)
    return world


_FIRST = ("account", "basket", "catalog", "checkout", "invoice", "ledger", "payment", "search", "shipping", "stock")
_SECOND = ("api", "worker", "gateway", "store", "events", "jobs", "web", "sync", "rules", "export")
_TEAMS = ("Payments", "Storefront", "Logistics", "Platform", "Data")


def _quarter_of(
    world: World,
    chance: random.Random,
    quarter: str,
    step: int,
    deployed: dict[str, int],
    bad: set[str],
    *,
    last: bool,
) -> None:
    year, number = int(quarter[:4]), int(quarter[-1])
    start = utc(year, number * 3 - 2, 1)
    days = sum(monthrange(year, month)[1] for month in range(number * 3 - 2, number * 3 + 1))
    total_k = total_n = total_commits = 0
    for name, usual in deployed.items():
        n = max(2, int(usual * chance.uniform(0.85, 1.2) * (1 + step * 0.02)))
        rate = 0.32 if name in bad and last else 0.09
        k = sum(chance.random() < rate for _ in range(n))
        median = 34 * 0.965**step * chance.uniform(0.6, 1.5)
        commits = n * 3
        total_k, total_n, total_commits = total_k + k, total_n + n, total_commits + commits
        service = {"scope": "service", "name": name}
        world.value("change_lead_time", median, quarter, n=commits, low=median * 0.8, high=median * 1.3, **service)
        world.value("change_lead_time_p75", median * 2.2, quarter, n=commits, **service)
        world.value("change_lead_time_p95", median * 6, quarter, n=commits, **service)
        reading = "worse" if name in bad and last else "no clear change" if n >= 6 else "too few data"
        world.share("change_fail_rate", k, n, quarter, reading=reading, **service)
        world.value("deployment_frequency", n / days, quarter, n=n, numerator=n, denominator=days, **service)
        world.value("policy_compliance_rate", None, quarter, reason="no_policy", **service)
        for one in range(n if last or step >= 5 else 0):
            finished = start + timedelta(days=chance.uniform(0, days - 0.1))
            key = f"run:{quarter[2:]}-{name}-{one}"
            failed = one < k
            recovered = chance.lognormvariate(1.4, 0.9)
            still_open = failed and last and chance.random() < 0.12
            world.add(
                "service_deployments",
                service=name,
                deployment_key=key,
                repository=f"acme/{name}",
                outcome="success",
                created_at=finished,
                finished_at=finished,
                day=finished.date(),
                kind=chance.choices(("change", "redeploy", "noop", "rollback"), (90, 4, 3, 3))[0],
                resolved=chance.random() < 0.94,
                finish_unknown=False,
                failed=failed,
                failure_method="time" if failed else None,
                failure_evidence="an incident began 3 h after this deployment" if failed else None,
                recovery_us=int(recovered * HOUR_US) if failed and not still_open else None,
                recovery_open=still_open,
            )
            if failed and last:
                world.add(
                    "failure_links",
                    service=name,
                    deployment_key=key,
                    method="time",
                    confidence="medium",
                    evidence=f"incident INC-{one + 100} began 3 h after this deployment",
                    incident_key=f"INC-{one + 100}",
                    counted=True,
                    evidence_at=finished,
                    day=finished.date(),
                )
        for one in range(min(commits, 30)):
            finished = start + timedelta(days=chance.uniform(0, days - 0.1))
            lead = median * chance.lognormvariate(0, 1.1)
            world.add(
                "change_lead",
                service=name,
                deployment_key=f"run:{quarter[2:]}-{name}-{one % n}",
                repository=f"acme/{name}",
                sha=f"{chance.getrandbits(160):040x}",
                is_bot=False,
                finished_at=finished,
                day=finished.date(),
                lead_us=int(lead * HOUR_US),
                pull_request=chance.randrange(1, 4000),
                coding_us=int(lead * 0.3 * HOUR_US * chance.uniform(0.5, 1.5)),
                pickup_us=int(lead * 0.15 * HOUR_US * chance.uniform(0.5, 1.5)),
                review_us=int(lead * 0.25 * HOUR_US * chance.uniform(0.5, 1.5)),
                merge_us=int(lead * 0.02 * HOUR_US * chance.uniform(0.5, 1.5)),
                deploy_us=int(lead * 0.28 * HOUR_US * chance.uniform(0.5, 1.5)),
            )
    organization_median = 34 * 0.965**step
    world.value(
        "change_lead_time",
        organization_median,
        quarter,
        n=total_commits,
        low=organization_median * 0.95,
        high=organization_median * 1.06,
        reading="better" if last else "no clear change",
        excluded=json.dumps({"merge_commit": 214, "authored_after_deploy": 3, "squashed": 88}),
    )
    world.value(
        "change_lead_time", organization_median * 0.8, quarter, n=total_commits + 300, series="all", reading="better"
    )
    world.value("change_lead_time_p75", organization_median * 2.2, quarter, n=total_commits, reading="no clear change")
    world.value("change_lead_time_p95", organization_median * 6, quarter, n=total_commits, reading="no clear change")
    world.share("change_fail_rate", total_k, total_n, quarter, reading="no clear change")
    world.share("change_fail_rate_changes_only", total_k, int(total_n * 0.9), quarter, reading="no clear change")
    recovery = 4.1 + step * 0.1 + chance.uniform(-0.6, 0.6)
    world.value(
        "failed_deployment_recovery_time",
        recovery,
        quarter,
        n=total_k - 9 if last else total_k,
        open=9 if last else 0,
        low=recovery * 0.8,
        high=recovery * 1.4,
        reading="worse" if last else "no clear change",
    )
    world.value(
        "deployment_frequency",
        total_n / days,
        quarter,
        n=total_n,
        numerator=total_n,
        denominator=days,
        low=total_n / days * 0.94,
        high=total_n / days * 1.06,
        reading="no clear change",
    )
    if step >= 3:
        world.share("deployment_rework_rate", int(total_n * 0.06), total_n, quarter, reading="no clear change")
    else:
        world.value("deployment_rework_rate", None, quarter, reason="not_collected")
    world.share("pipeline_success_rate", 3500 + step * 20, 4100, quarter, reading="better" if last else None)
    world.value("pipeline_duration_median", 12.4, quarter, n=4100, low=12.1, high=12.7, reading="no clear change")
    world.value("queue_time_median", 0.62, quarter, n=9100, low=0.6, high=0.64, reading="changed")
    world.value("config_drift_incidents", step % 3, quarter, low=0.0, high=5.6, reading="too few data")
    world.value(
        "manual_interventions_per_deployment",
        0.11,
        quarter,
        n=total_n,
        numerator=int(total_n * 0.11),
        denominator=total_n,
        reading="no clear change",
    )
    world.value("policy_compliance_rate", None, quarter, reason="no_policy")


def _pipelines_of(world: World, chance: random.Random) -> None:
    workflows = ("build", "e2e nightly", "deploy", "lint and unit", "integration tests", "release image")
    for number in range(1200):
        repository = f"acme/{chance.choice(_FIRST)}-{chance.choice(_SECOND)}"
        workflow = chance.choice(workflows)
        day = date(2026, 7, 1) + timedelta(days=chance.randrange(92))
        failed = chance.random() < (0.2 if "nightly" in workflow else 0.06)
        retried = failed and chance.random() < 0.5
        minutes = chance.lognormvariate(2.6, 0.6) * (4 if "nightly" in workflow else 1)
        shared = {"repository": repository, "run_id": str(number), "workflow": workflow, "day": day, "counted": True}
        lost = int(minutes * 60_000_000) if failed else None
        world.add(
            "run_attempts",
            **shared,
            attempt=1,
            succeeded=not failed,
            is_first=True,
            run_succeeded=not failed,
            lost_us=lost,
        )
        if retried:
            world.add(
                "run_attempts", **shared, attempt=2, succeeded=True, is_first=False, run_succeeded=True, flaky=True
            )
        world.add(
            "job_times",
            repository=repository,
            run_id=str(number),
            attempt=1,
            job_id=f"{number}-1",
            day=day,
            queue_us=int(chance.expovariate(1 / 40) * 1_000_000) if chance.random() > 0.03 else None,
        )


def _quality_of(world: World) -> None:
    for entity, items, quarantined in (
        ("commits", 41210, 3),
        ("deployments", 6120, 9),
        ("incidents", 312, 0),
        ("pull_requests", 14003, 1),
    ):
        world.add(
            "collection",
            source="drops",
            entity=entity,
            first_at=utc(2024, 6, 1),
            last_at=utc(2026, 10, 4, 21, 7),
            items=items,
            quarantined=quarantined,
            complete=entity != "incidents",
        )
    for line in range(13):
        world.add(
            "quarantine",
            source="drops",
            entity="deployments",
            origin="deployments/2026-08.jsonl",
            line=line * 17 + 3,
            reason="time_order" if line % 3 else "missing_time",
            detail="finished_at 2026-08-01T10:00:00Z is before started_at",
        )
    world.add("unmapped", kind="environment", name="prod-eu-legacy", detail="acme/stock-api", rows=41)
    world.add("unmapped", kind="repository", name="acme/experiments", rows=7)
    for number in range(40):
        world.add(
            "service_incidents",
            service=f"{_FIRST[number % 10]}-api",
            incident_key=f"INC-{number + 100}",
            title="Orders are answered slowly" if number % 2 else "Errors after a release",
            severity=f"sev{number % 3 + 1}",
            opened_at=utc(2026, 7, 3) + timedelta(days=2 * number),
            opened_day=(utc(2026, 7, 3) + timedelta(days=2 * number)).date(),
            ended_at=None if number % 11 == 0 else utc(2026, 10, 1),
            restored_at=None if number % 11 == 0 else utc(2026, 10, 1),
            linked=number % 3 != 0,
            unlinked_reason=None if number % 3 else "no deployment in the window",
            url=f"https://incidents.example/INC-{number + 100}",
        )
