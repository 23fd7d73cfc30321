from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics.catalog import load_catalog
from analytics.errors import UsageError
from analytics.sample.feeds import FEEDS
from analytics.sample.writing import SampleSummary, write_sample
from analytics.settings import load_settings
from tests.unit.sample.sample_world import World, fingerprint


def small(target: Path, seed: int = 2026, services: int = 1, quarters: int = 1) -> SampleSummary:
    return write_sample(target, seed=seed, services=services, quarters=quarters)


def test_another_process_with_another_hash_seed_and_time_zone_writes_the_same_bytes(tmp_path: Path) -> None:
    write_sample(tmp_path / "here", services=12, quarters=1)
    code = (
        "import sys; from pathlib import Path; from analytics.sample.writing import write_sample; "
        "write_sample(Path(sys.argv[1]), services=12, quarters=1)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Pacific/Auckland", "LC_ALL": "C"}
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], env=environment, cwd=root, check=True)
    assert fingerprint(tmp_path / "here") == fingerprint(tmp_path / "there")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("written")
    small(target)
    return target


@pytest.fixture
def target(written: Path, tmp_path: Path) -> Path:
    """A copy of a sample of one service and one quarter."""
    return shutil.copytree(written, tmp_path / "sample")


def test_writing_the_same_sample_again_touches_no_file(target: Path) -> None:
    for path in target.rglob("*"):
        os.utime(path, (1, 1))
    before = fingerprint(target)
    small(target)
    assert fingerprint(target) == before
    assert {path.stat().st_mtime for path in target.rglob("*") if path.is_file()} == {1}


def test_a_further_service_changes_no_line_of_the_others(tmp_path: Path) -> None:
    small(tmp_path / "two", services=2)
    small(tmp_path / "three", services=3)
    small(tmp_path / "four", services=4)
    for fewer, more in (("two", "three"), ("three", "four")):
        for name in FEEDS.values():
            if name.endswith(".jsonl"):
                lines = Counter(map(_alone, (tmp_path / fewer / "feeds" / name).read_bytes().splitlines()))
                lines.subtract(map(_alone, (tmp_path / more / "feeds" / name).read_bytes().splitlines()))
                assert not [line for line, times in lines.items() if times > 0], name


def _alone(line: bytes) -> bytes:
    """A line without what a shared log says of an attestation: its place among those of others."""
    return re.sub(rb'"tlogEntries":\[.*?"canonicalizedBody":"[^"]*"\}\]', b"", line)


def test_a_service_beyond_the_asked_number_is_told_of_by_its_commits_only(written: Path) -> None:
    told: set[str | None] = set()
    for name in ("deployments", "incidents/pager", "incidents/tickets", "drills"):
        for line in (written / f"feeds/{name}.jsonl").read_bytes().splitlines():
            if line.endswith(b"}"):
                told.add(json.loads(line).get("service"))
    assert told - {None} == {"storefront"}
    commits = (written / "feeds/commits.jsonl").read_text()
    assert "services/cart/" in commits


def test_an_interrupted_sample_is_written_to_its_end(target: Path) -> None:
    whole = fingerprint(target)
    for name in ("catalog.yaml", "quarterdeck.yaml", "feeds/commits.jsonl"):
        (target / name).unlink()
    small(target)
    assert fingerprint(target) == whole


def test_nothing_but_the_sample_is_left_in_the_folder(target: Path) -> None:
    declared = {"quarterdeck.yaml", "catalog.yaml", "policies.yaml", "waivers.yaml", "sample.json"}
    roots = {"roots/harbour-pine.json", "roots/harbour-pine-private.json"}
    records = {f"osv/HPSA-2026-000{number}.json" for number in (1, 2, 3)}
    assert set(fingerprint(target)) == {*declared, *roots, *records, *(f"feeds/{name}" for name in FEEDS.values())}


def test_files_of_a_sample_with_other_parameters_are_removed(target: Path) -> None:
    for name in ("bundles/loyalty/v1.0.0.sigstore.json", "sboms/gone/deep/a.cdx.json"):
        (target / name).parent.mkdir(parents=True)
        (target / name).write_text("{}")
    small(target)
    assert not (target / "bundles").exists() or not any((target / "bundles").iterdir())
    assert not list((target / "sboms").rglob("*"))


def test_a_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no sample"):
        small(tmp_path)
    assert set(fingerprint(tmp_path)) == {"thesis.txt"}


def test_a_marker_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text('["something else"]')
    with pytest.raises(UsageError, match="no sample"):
        small(tmp_path)


def test_a_file_as_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        small(tmp_path / "file")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made") as caught:
        small(tmp_path / "file" / "below")
    assert str(tmp_path / "file" / "below") in str(caught.value)


def test_a_sample_with_another_seed_takes_the_place_of_one_that_nothing_was_pulled_from(
    target: Path, tmp_path: Path
) -> None:
    before = fingerprint(target)
    small(tmp_path / "fresh", seed=2)
    small(target, seed=2)
    assert fingerprint(target) == fingerprint(tmp_path / "fresh")
    assert fingerprint(target)["feeds/commits.jsonl"] != before["feeds/commits.jsonl"]


def test_a_sample_that_data_was_pulled_from_keeps_its_parameters(target: Path) -> None:
    (target / "quarterdeck-data").mkdir()
    before = fingerprint(target)
    with pytest.raises(UsageError, match="other parameters"):
        small(target, seed=2)
    assert fingerprint(target) == before


@pytest.mark.parametrize(("services", "quarters"), [(0, 8), (-1, 8), (2001, 8), (12, 0), (12, 21)])
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, services: int, quarters: int
) -> None:
    with pytest.raises(UsageError, match=r"is -?\d+"):
        write_sample(tmp_path / "new", services=services, quarters=quarters)
    assert not (tmp_path / "new").exists()


def test_settings_and_catalog_load(world: World) -> None:
    settings = load_settings(world.summary.target / "quarterdeck.yaml")
    assert settings.now() == datetime(2026, 10, 5, 6, tzinfo=UTC)
    assert settings.time_zone == "Europe/Berlin"
    assert isinstance(settings.catalog, list)
    catalog = load_catalog(settings.catalog)
    assert sorted(world.summary.services) == [service.name for service in catalog.services]
    assert {service.deploys.entity for service in catalog.services} == {
        "deployments",
        "pipeline_runs",
        "tags",
        "releases",
    }
    assert {service.tier for service in catalog.services} == {0, 1, 2, 3}
    assert 4 <= len({service.team for service in catalog.services}) <= 6
    assert len(catalog.of_repository("harbour-pine/shop")) == 3


@pytest.mark.parametrize("quarters", [1, 3])
def test_the_quarters_asked_for_are_covered_and_end_with_the_last(tmp_path: Path, quarters: int) -> None:
    summary = small(tmp_path, quarters=quarters)
    assert summary.quarters[-1] == "2026-Q3"
    assert len(summary.quarters) == quarters
    calendar = load_settings(tmp_path / "quarterdeck.yaml").calendar
    deployed = {str(calendar.quarter_of(at)) for at in World(summary).finishes.values()}
    assert set(summary.quarters) <= deployed <= {*summary.quarters, "2026-Q4"}


def test_feeds_come_in_every_format(world: World) -> None:
    feeds = world.feeds
    assert (feeds / "slo_samples.parquet").read_bytes()[:4] == b"PAR1"
    assert (feeds / "survey_responses.csv").read_text().startswith("respondent,question,answered_at")
    assert {path.name for path in (feeds / "incidents").iterdir()} == {"pager.jsonl", "tickets.jsonl"}
    packed = (feeds / "pipeline_jobs.jsonl.gz").read_bytes()
    assert json.loads(gzip.decompress(packed).splitlines()[0])["job_id"]
    # Neither a time nor a name in the header.
    assert packed[4:8] == b"\0\0\0\0"
    assert packed[3] == 0


def test_a_feed_is_in_the_order_of_time_per_repository(world: World) -> None:
    newest: dict[str, str] = {}
    for line in (world.feeds / "commits.jsonl").read_bytes().splitlines():
        commit = json.loads(line)
        repository = commit["repository"].replace("returns-theme", "returns-portal")
        assert newest.get(repository, "") <= commit["committed_at"]
        newest[repository] = commit["committed_at"]


def test_lines_and_records_are_counted_as_they_are(world: World) -> None:
    counted = {name: count for name, count in world.lines.items() if name in world.summary.lines}
    assert world.summary.lines == counted
    assert world.summary.records == {name: len(world.records(name)) for name in world.summary.records}


def test_an_entity_without_records_still_has_its_file(written: Path) -> None:
    assert (written / "feeds/tags.jsonl").read_bytes() == b""
