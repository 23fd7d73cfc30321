"""After a whole run with a canary for a token, no file, page, table, event or word of it holds the canary."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cramjam
import duckdb
import polars as pl
import pytest

from tests.fakes.github.pulling import workspace
from tests.fakes.github.server import TOKEN, FakeGitHub, Fault
from tests.fakes.github.world import SIGNED, World

DAY = 86_400
SECRETS = (TOKEN, SIGNED, "canaryPassword")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        yield server


def live(world: World) -> None:
    """A quarter in which people also pasted secrets into titles and addresses."""
    shop = world.repository("shop", "https://user:canaryPassword@127.0.0.1:9/acme/shop.git")
    pasted = f"see https://store.test/a?sig={SIGNED} with Authorization: Bearer {TOKEN}"
    for number in range(8):
        (commit,) = world.push(shop, message=f"Fix {number}: {pasted}")
        pull = world.open_pull(shop)
        world.edit_pull(pull, pasted)
        world.merge(shop, pull)
        run = world.start_run(shop, sha=commit.sha)
        world.proceed(run)
        world.advance(600)
        world.proceed(run, "failure" if number % 3 == 0 else "success")
        made = world.deploy(shop, sha=commit.sha)
        world.set_status(shop, made, "SUCCESS", run)
        issue = world.open_issue(shop, ["incident", "service:shop"])
        issue.title = pasted
        world.advance(DAY)
        world.close_issue(issue)
        digest = world.upload(world.release(shop, f"v{number}"), "shop.tar.gz")
        world.attest_in_store(shop, digest, bytes(cramjam.snappy.compress_raw(b'{"mediaType": "x"}')))
    world.advance(40 * DAY)


def said(words: list[str], settings: Path, home: Path) -> str:
    environment = {**os.environ, "HOME": str(home)}
    program = Path(sys.executable).with_name("quarterdeck")
    done = subprocess.run(
        [program, *words, "--debug", "--settings", settings], capture_output=True, text=True, env=environment
    )
    return f"exit {done.returncode}\n{done.stdout}{done.stderr}"


def texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything that the files say: as they are, and what databases and Parquet hold compressed."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        content = path.read_bytes()
        yield path, content.decode("utf-8", "replace")
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as con:
                for schema, table in con.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall():
                    yield path, repr(con.execute(f'FROM "{schema}"."{table}"').fetchall())
        elif path.suffix == ".parquet":
            yield path, repr(pl.read_parquet(path).rows())
        elif content.startswith(b"SQLite format 3"):
            with sqlite3.connect(path) as lite:
                yield path, "\n".join(lite.iterdump())


def test_the_canary_is_nowhere_after_a_full_run(tmp_path: Path, fake: FakeGitHub) -> None:
    live(fake.world)
    settings = workspace(tmp_path, fake)
    assert settings.settings_path is not None
    output = said(["run", "--quarter", "2026-Q1"], settings.settings_path, tmp_path)
    assert output.startswith("exit 0"), output
    # Errors speak too: a refusal that repeats the token, an answer that is none, a clone that does not answer.
    fake.faults.append(Fault(403, f'{{"message": "bad {TOKEN}"}}', match=lambda path: path.endswith("/releases")))
    fake.faults.append(Fault(200, f"<html>{TOKEN}</html>", match=lambda path: path.endswith("/actions/runs")))
    fake.world.push(next(iter(fake.world.repositories.values())))
    fake.world.release(next(iter(fake.world.repositories.values())), "v99")
    workspace(tmp_path, fake, commits="git")
    for words in (["run", "--quarter", "2026-Q1"], ["coverage"], ["doctor"]):
        output += said(words, settings.settings_path, tmp_path)
    assert "cannot be read" in output or "error" in output
    everything = [(Path("output"), output), *texts(tmp_path)]
    # The run was a whole one, and its databases were looked into.
    for part in ("landing/hub.duckdb", "analytics.duckdb", "packs/2026-Q1/index.html", "lake/pull_requests"):
        assert any(part in str(path) for path, _ in everything), part
    assert any("store.test" in text for _, text in everything)
    assert any(path.suffix == ".db" for path, _ in everything)
    leaks = {(str(path), secret) for path, text in everything for secret in SECRETS if secret in text}
    assert leaks == set()
