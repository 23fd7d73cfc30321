"""What the sample organisation declares about itself: `quarterdeck.yaml` and `catalog.yaml`.

Source: contract.md section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from analytics.sample.changes import runbook_path
from analytics.sample.ledger import PRODUCTION, image_name
from analytics.sample.organisation import ORGANIZATION, Habit, live_from
from analytics.sample.runs import DEPLOY_JOB, DEPLOY_WORKFLOW
from analytics.sample.timeline import NOW, TIME_ZONE, Timeline

STORAGE = "quarterdeck-data"

SETTINGS_TEXT = f"""\
# A sample organisation that does not exist, written by `quarterdeck sample`; writing it again restores this file.
organization: {ORGANIZATION}
time_zone: {TIME_ZONE}
fiscal_year_start_month: 1
storage: ./{STORAGE}
catalog: catalog.yaml

# Fixed, so that everybody sees the same numbers: some days after the last quarter.
now: {NOW:%Y-%m-%dT%H:%M:%SZ}

sources:
  - {{name: feeds, type: files, path: ./feeds}}

incidents: {{link_window_hours: 24, rollback_is_evidence: false}}
rework: {{labels: [hotfix], branches: ["hotfix/*"], titles: ["hotfix*"]}}
bots: ["*[bot]", "renovate*"]

# Signed by authorities of the sample's own, which nobody else trusts.
supply_chain:
  policies: policies.yaml
  waivers: waivers.yaml
  trusted_roots: [roots/harbour-pine.json, roots/harbour-pine-private.json]
  bundles: ["bundles/**/*.json"]
  sboms: ["sboms/**/*.json"]
  osv: osv

# In the metric's unit: hours, and a share of one.
targets: {{change_lead_time: 24, change_fail_rate: 0.15, failed_deployment_recovery_time: 4}}

reports: {{title: Delivery at {ORGANIZATION}, owner: Delivery platform team}}
"""


class _Dumper(yaml.SafeDumper):
    """Writes equal values out each time; the settings reader accepts no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def catalog_text(habits: Iterable[Habit], timeline: Timeline) -> str:
    """The catalog of some services, each with the selector that finds its deployments."""
    entries = [_entry(habit, timeline) for habit in habits]
    text = yaml.dump({"services": entries}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# The services of {ORGANIZATION}, an organisation that does not exist.\n{text}"


def _entry(habit: Habit, timeline: Timeline) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": habit.name,
        "team": habit.team,
        "tier": habit.tier,
        "repository": habit.repository,
    }
    if habit.paths:
        entry["paths"] = list(habit.paths)
    selectors: dict[str, dict[str, Any]] = {
        "environment": {"environments": [PRODUCTION]},
        "gitops": {"environments": [PRODUCTION]},
        "workflow": {"workflow": DEPLOY_WORKFLOW, "job": DEPLOY_JOB},
        "tags": {"tags": "v*"},
        "releases": {"releases": True},
    }
    entry["deploys"] = selectors[habit.selector]
    if habit.selector == "gitops":
        entry["artifacts"] = [image_name(habit)]
    if habit.link_window_hours is not None:
        entry["link_window_hours"] = habit.link_window_hours
    if habit.failed_attempt_is_failure:
        entry["failed_attempt_is_failure"] = True
    if habit.runbook:
        entry["runbooks"] = [runbook_path(habit)]
    if habit.rollback_ready:
        entry["rollback"] = {
            "runbook": f"docs/runbooks/{habit.name}-rollback.md",
            "automation": ".github/workflows/rollback.yml",
        }
    began = live_from(habit, timeline)
    if began is not None:
        entry["since"] = timeline.day(began)
    return entry
