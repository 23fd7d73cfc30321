"""Changing a rule, and the shapes in which the same facts may come: metrics.md section 6, contract.md section 4."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

LEAD = "change_lead_time"


def monorepo(world: World) -> None:
    world.service(paths=["services/checkout/**"])
    world.seed()
    world.commit("c1", 10, "c0", files=["services/checkout/cart.py"])
    world.commit("c2", 14, "c1", files=["services/mail/sent.py"])
    world.deploy("d1", "c2", 20)
    world.incident("i1", 50, resolved=51)


def test_e39_a_changed_catalog_is_recomputed_from_what_is_stored(world: World) -> None:
    monorepo(world)
    before = world.measure()
    before.expect(LEAD, value=10, n=1)
    before.ratio("change_fail_rate", 0, 1)
    shutil.rmtree(world.feeds)
    world.catalog[0].update(paths=["services/**"], link_window_hours=48)
    world.declare()
    after = world.measure_landed()
    after.expect(LEAD, value=8, n=2)
    after.ratio("change_fail_rate", 1, 1)


def test_e39_a_changed_rule_is_recomputed_from_what_is_stored(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10, labels=["urgent"])
    world.measure().ratio("deployment_rework_rate", 0, 1)
    shutil.rmtree(world.feeds)
    world.set(rework={"labels": ["urgent"]}, time_zone="Asia/Tokyo")
    world.declare()
    world.command("reprocess")
    world.command("measure", "--quarter", "2026-Q1")
    world.metrics().ratio("deployment_rework_rate", 1, 1)


def test_measuring_twice_changes_nothing(world: World) -> None:
    monorepo(world)
    assert world.measure().rows == world.measure().rows


def test_a_later_record_replaces_an_earlier_one(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10, status="in_progress")
    world.deploy("d1", "c1", 12, status="success")
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=7, n=1)


def test_the_newer_update_wins_wherever_it_stands(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 12, status="success", updated_at=world.stamp(12))
    world.deploy("d1", "c1", 10, status="failure", updated_at=world.stamp(11))
    measured = world.measure()
    measured.deployments(1)
    measured.ratio("deployment_success_rate", 1, 1)


def test_lists_in_a_csv_are_json_in_the_cell(world: World) -> None:
    world.seed()
    world.commit("c1", 11, "c0", files=["a.py", "b,c.py"])
    world.commit("b1", 12, "c0", files=["d.py"])
    world.commit("merge", 13, "c1", "b1")
    world.deploy("d1", "merge", 20, labels=["hotfix"])
    commits, deployments = world.records.pop("commits"), world.records.pop("deployments")
    world.write()
    for entity, records in (("commits", commits), ("deployments", deployments)):
        columns = sorted({key for record in records for key in record})
        with (world.feeds / f"{entity}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for record in records:
                writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()})
    world.command("pull")
    measured = world.measure_landed()
    measured.expect(LEAD, value=8.5, n=2)
    measured.ratio("deployment_rework_rate", 1, 1)


def test_a_compressed_file_and_a_folder_of_files_read_the_same(world: World) -> None:
    world.seed()
    world.history(("c1", 11), ("c2", 12), onto="c0")
    world.deploy("d1", "c2", 20)
    commits, deployments = world.records.pop("commits"), world.records.pop("deployments")
    world.write()
    world.write_feed("commits/first.jsonl", commits[:1])
    text = "".join(json.dumps(record) + "\n" for record in commits[1:])
    (world.feeds / "commits" / "second.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    text = "".join(json.dumps(record) + "\n" for record in deployments)
    (world.feeds / "deployments.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    world.command("pull")
    measured = world.measure_landed()
    measured.expect(LEAD, value=8.5, n=2)
    measured.deployments(1)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param('{"deployment_id": "bad"', id="cut short"),
        pytest.param(
            json.dumps({"deployment_id": "bad", "repository": "acme/shop", "environment": "production"}), id="no sha"
        ),
        pytest.param(
            json.dumps(
                {
                    "deployment_id": "bad",
                    "repository": "acme/shop",
                    "environment": "production",
                    "sha": "0" * 40,
                    "status": "success",
                    "created_at": "2026-01-06T10:00:00",
                }
            ),
            id="time without an offset",
        ),
    ],
)
def test_a_bad_record_is_set_aside_with_its_line_and_the_rest_goes_on(world: World, broken: str) -> None:
    world.seed()
    world.deploy("d1", "c0", 10)
    world.deploy("d2", "c0", 11)
    world.write()
    path = world.feeds / "deployments.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], broken, *lines[1:]]) + "\n", encoding="utf-8")
    world.command("pull")
    world.measure_landed().deployments(2)
    [refused] = world.facts("quarantine")
    assert refused["line"] == 2
    assert refused["origin"].endswith("deployments.jsonl")
    assert refused["reason"]


def test_a_deployment_without_a_service_is_matched_by_repository_and_environment(world: World) -> None:
    world.service("a", deploys={"environments": ["production-a"]})
    world.service("b", deploys={"environments": ["production-b"]})
    world.service("c", repository="acme/other", deploys={"environments": ["production-a"]})
    world.commit("c0", -300)
    world.deploy("d1", "c0", 10, environment="production-a")
    world.deploy("d2", "c0", 11, environment="production-b")
    world.deploy("d3", "c0", 12, environment="production-b")
    measured = world.measure()
    measured.deployments(1, name="a")
    measured.deployments(2, name="b")
    measured.deployments(0, name="c")
