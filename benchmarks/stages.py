"""Runs a stage in a process of its own, so that its peak memory is its own, and times it without its imports.

`python -m benchmarks.stages STAGE SETTINGS` is that process; it prints one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analytics.engine import connect
from analytics.settings import Settings, load_settings
from benchmarks.processes import Measurement, report, run_module

STAGES = ("pull", "build", "measure")

# The columns that a stage cannot do without, by entity; pull and build need all that there are.
MEASURED_COLUMNS = {
    "commits": ("repository", "sha", "author", "authored_at"),
    "deployments": ("service", "deployment_id", "status", "created_at", "started_at", "finished_at"),
    "incidents": ("service", "incident_id", "opened_at", "resolved_at"),
    "pipeline_runs": ("repository", "run_id", "attempt", "workflow", "head_sha", "conclusion", "created_at"),
    "pipeline_jobs": ("repository", "run_id", "attempt", "created_at", "started_at", "completed_at", "runner"),
}


def run_in_process(stage: str, settings_file: Path, *words: str) -> Measurement:
    """Run a stage in a new process; raises RuntimeError when it fails."""
    return run_module("benchmarks.stages", stage, str(settings_file), *words)


def main(stage: str, settings_file: Path, *words: str) -> None:
    """Do the work of the new process."""
    settings = load_settings(settings_file)
    work = _prepared(stage, *words)
    report(lambda: work(settings))


def _prepared(stage: str, *words: str) -> Callable[[Settings], dict[str, Any]]:
    """A stage with its imports done, so that they are not part of its time."""
    if stage == "pull":
        from analytics.landing.pull import pull

        def land(settings: Settings) -> dict[str, Any]:
            results = pull(settings)
            return {"rows": sum(r.items for r in results), "refused": sum(r.quarantined for r in results)}

        return land
    if stage == "build":
        from analytics.delivery.build import build

        return lambda settings: {"rows": sum(build(settings).tables.values())}
    if stage == "measure":
        from analytics.metrics.measure import measure

        def measured(settings: Settings) -> dict[str, Any]:
            summary = measure(settings)
            return {"rows": summary.values, "quarters": len(summary.quarters)}

        return measured
    if stage == "verify":
        from analytics.supply_chain.verify import verify

        def verified(settings: Settings) -> dict[str, Any]:
            summary = verify(settings)
            return {
                "judged": summary.judged,
                "known": summary.known,
                "SBOMs": summary.sboms,
                "findings": sum(summary.findings.values()),
            }

        return verified
    if stage in ("typed tables", "runs", "ownership", "publish"):
        return _step(stage, *words)
    if stage == "generate":
        from benchmarks.feeds import Size, write_feeds

        size = Size(int(words[0]), int(words[1]))

        def generate(settings: Settings) -> dict[str, Any]:
            entities = write_feeds(settings.settings_path.parent, size, int(words[2]))
            return {"rows": sum(entities.values()), "entities": entities}

        return generate
    return lambda settings: {"rows": plain_scan(settings, words[0])}


def _step(step: str, *words: str) -> Callable[[Settings], dict[str, Any]]:
    """A step of the lake that engines are compared on; the word `spark` lets Spark derive the facts."""
    from benchmarks import lake
    from benchmarks.feeds import Size

    if step == "typed tables":
        size, seed = Size(int(words[0]), int(words[1])), int(words[2])
        return lambda settings: {"rows": sum(lake.write_typed_tables(settings, size, seed).values())}
    if step == "publish":
        return lambda settings: {"rows": lake.publish_lake(settings)}
    derive = lake.derive_runs if step == "runs" else lake.derive_ownership
    return lambda settings: {"rows": derive(_on(settings, *words))}


def _on(settings: Settings, engine: str = "duckdb") -> Settings:
    return settings.model_copy(update={"engine": settings.engine.model_copy(update={"type": engine})})


def plain_scan(settings: Settings, stage: str) -> int:
    """Read every value of the columns that a stage needs from the feed and do nothing with them; the number of rows."""
    (source,) = [source for source in settings.sources if source.type == "files"]
    rows = 0
    with connect(settings) as con:
        for folder in sorted(source.path.iterdir()):
            if stage == "measure" and folder.name not in MEASURED_COLUMNS:
                continue
            relation = f"read_parquet('{str(folder).replace(chr(39), chr(39) * 2)}/*.parquet')"
            columns = {str(row[0]): str(row[1]) for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
            wanted = MEASURED_COLUMNS[folder.name] if stage == "measure" else tuple(columns)
            reads = ", ".join(f"sum(len({c}))" if columns[c].endswith("[]") else f"max({c})" for c in wanted)
            found = con.execute(f"SELECT count(*), {reads} FROM {relation}").fetchone()
            rows += int(found[0]) if found else 0
    return rows


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
