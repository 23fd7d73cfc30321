"""The backup that docs/operators.md tells of: landing, lake and packs copied while nothing runs, and put back."""

from __future__ import annotations

import shutil
from typing import Any

from reports.manifest import verify_pack

# Everything else is made again: see the table in docs/operators.md.
COPIED = ("landing", "lake", "lake.json", "packs")


def test_what_was_copied_gives_the_same_values_without_any_source(world: Any, tmp_path: Any) -> None:
    world.seed()
    world.history(("c1", 1), ("c2", 2), onto="c0")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "c2", 20)
    world.incident("i1", 21, resolved=23)
    values = world.measure()
    world.command("pack", "--quarter", "2026-Q1")
    backup, storage = tmp_path / "backup", world.path / "data"
    for name in COPIED:
        source = storage / name
        target = backup / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    # A copy is whole: nothing is in a write-ahead log that was left behind.
    assert not list(backup.rglob("*.wal"))

    shutil.rmtree(storage)
    shutil.rmtree(world.feeds)
    shutil.copytree(backup, storage)
    world.command("measure")
    assert world.metrics().rows == values.rows
    assert verify_pack(storage / "packs" / "2026-Q1").ok
    # Nor is the lake needed: it is derived from what is landed.
    shutil.rmtree(storage / "lake")
    (storage / "lake.json").unlink()
    assert world.measure_landed().rows == values.rows
