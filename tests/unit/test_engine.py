from __future__ import annotations

import os
from pathlib import Path

from analytics.engine import connect
from analytics.settings import EngineSettings, Settings


def test_what_does_not_fit_is_spilled_to_a_folder_of_this_process_and_removed(tmp_path: Path) -> None:
    settings = Settings(organization="Acme", storage=tmp_path, engine=EngineSettings(memory_limit="30MB", threads=1))
    # DuckDB empties the folder that it spilled to when it closes: another process must have its own.
    other = settings.temp_dir / "spill-elsewhere-1"
    other.mkdir(parents=True)
    (other / "duckdb_temp_storage-0.tmp").touch()
    with connect(settings) as con:
        con.execute("CREATE TABLE spilled AS SELECT range AS a, hash(range) AS b FROM range(4000000)")
        spills = [folder for folder in settings.temp_dir.iterdir() if folder.name.endswith(f"-{os.getpid()}")]
        assert len(spills) == 1
        assert list(spills[0].iterdir())
        assert con.execute("SELECT count(*) FROM spilled WHERE b = hash(a)").fetchall() == [(4_000_000,)]
    assert [folder.name for folder in settings.temp_dir.iterdir()] == ["spill-elsewhere-1"]
    assert list(other.iterdir())
