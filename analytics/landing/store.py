"""The landing file of one source, or of one shard: a page, its items, its quarantine and its cursor commit together.

Source: spec architecture.md section 2 and ingestion.md section 1. One writer at a time; DuckDB's own lock keeps others
out.
"""

from __future__ import annotations

import glob
import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import polars as pl

from analytics import engine
from analytics.errors import LandingError
from analytics.landing.judge import Fault
from analytics.landing.pages import JudgedPage, Refused, judge_page, refused
from analytics.landing.payloads import reading_query, rewritten
from analytics.landing.schema import check_version, create_tables
from analytics.landing.shards import Shard, landing_path
from analytics.landing.waiting import DEADLINE_SECONDS, wait_for_file
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES
from analytics.sources.port import Page, TimeWindow

# An observed page's records are numbered behind those of all pages before it.
LINES_OF_A_PAGE = 10_000
_WORK_PREFIX = "landing-"
# A running pull changes its folder with every page, so that one untouched for a day belongs to a pull that was killed.
_LEFT_OVER_SECONDS = 24 * 3600
_ARRIVING = {"line": pl.Int64, "payload": pl.String}
_REFUSED = {
    "line": pl.Int64,
    "reason": pl.String,
    "json_path": pl.String,
    "detail": pl.String,
    "sha256": pl.String,
    "excerpt": pl.String,
    "payload": pl.String,
}


# Only what differs from the newest version that this request landed of the same key.
_CHANGED = (
    "ANTI JOIN (SELECT key, arg_max(version, line) AS version FROM items SEMI JOIN arriving USING (key) "
    "WHERE entity = $entity AND origin = $origin GROUP BY key) AS known "
    "ON known.key = arriving.key AND known.version = hash(arriving.payload)"
)


@dataclass(frozen=True, slots=True)
class Landed:
    """How many records of a page landed, and how many went to quarantine."""

    items: int
    quarantined: int


class LandingStore:
    """The open landing file of one source, or of one of its shards; a context manager.

    `con` is its connection; nothing outside this room writes through it. `now` is naive UTC.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, work: Path, now: datetime, closing: ExitStack) -> None:
        self.con = con
        self._work = work
        self.now = now.astimezone(UTC).replace(tzinfo=None)
        self._closing = closing
        (self._last_page_id,) = con.execute("SELECT coalesce(max(page_id), 0) FROM pages").fetchall()[0]

    @classmethod
    def open(
        cls,
        settings: Settings,
        source: str,
        deadline_seconds: float = DEADLINE_SECONDS,
        shard: Shard | None = None,
    ) -> LandingStore:
        """Open, or create, the landing file of a source, or of one shard of it, for writing.

        Raises LandingError when another process holds it past the deadline, when it is no landing file, and when
        another version wrote it.
        """
        path = landing_path(settings, source, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            work = stack.enter_context(work_folder(settings))
            if not path.exists():
                _create(settings, work / "new.duckdb", path)
            con = wait_for_file(path, lambda: stack.enter_context(engine.connect(settings, path)), deadline_seconds)
            # Fewer, larger checkpoints: each one writes the table's last, half-full row group again.
            con.execute("SET checkpoint_threshold = '64MB'")
            if not check_version(con, path):
                create_tables(con)
            return cls(con, work, settings.now(), stack.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    def close(self) -> None:
        """Close the file and remove what was half written."""
        self._closing.close()

    def __enter__(self) -> LandingStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cursor(self, entity: str, request_key: str) -> dict[str, Any] | None:
        """The cursor behind the last landed page of a request."""
        row = self.con.execute(
            "SELECT value FROM cursors WHERE entity = ? AND request_key = ?", [entity, request_key]
        ).fetchone()
        return dict(json.loads(row[0])) if row else None

    def offer(self, requests: Mapping[str, Sequence[str]], names: Mapping[str, str] | None = None) -> None:
        """Note what the source offers now; an entity with a file, even an empty one, is collected from here on.

        `names` gives the repository behind a request whose key is an id: a repository that was renamed keeps its
        history, under the name it has now.
        """
        with self.transaction():
            if names:
                self._note_names(names)
            for entity in sorted(set(requests) & set(ENTITIES)):
                known = self.con.execute("SELECT 1 FROM collected WHERE entity = ?", [entity]).fetchone()
                if known:
                    self.con.execute("UPDATE collected SET last_seen_at = ? WHERE entity = ?", [self.now, entity])
                else:
                    self.con.execute("INSERT INTO collected VALUES (?, ?, ?)", [entity, self.now, self.now])
            offered = [(entity, key) for entity, keys in sorted(requests.items()) for key in keys]
            self._note("offered", offered)
            self._note("unfinished", offered)

    def finish(self, failed: Sequence[tuple[str, str]]) -> None:
        """Note that every offered request (entity, key) was read to its end but for those that failed."""
        with self.transaction():
            self._note("unfinished", failed)

    def _note_names(self, names: Mapping[str, str]) -> None:
        before = self._noted("names", {})
        former = [tuple(entry) for entry in self._noted("former_names", [])]
        former += [(key, before[key]) for key, name in names.items() if before.get(key, name) != name]
        self._note("names", {**before, **names})
        self._note("former_names", sorted(set(former)))

    def _noted(self, key: str, otherwise: Any) -> Any:
        row = self.con.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return json.loads(row[0]) if row else otherwise

    def _note(self, key: str, value: Any) -> None:
        self.con.execute("DELETE FROM meta WHERE key = ?", [key])
        self.con.execute("INSERT INTO meta VALUES (?, ?)", [key, json.dumps(value)])

    def land(self, page: Page) -> Landed:
        """Judge a page and write it."""
        return self.write(judge_page(page))

    def write(self, judged: JudgedPage) -> Landed:
        """Write a judged page, all or nothing: its items, its quarantine, the page and its cursor.

        Raises LandingError when the file cannot be written.
        """
        page = judged.page
        try:
            with self.transaction():
                self._last_page_id += 1
                landed = self.write_again(judged, self._last_page_id)
                self._insert_page(page, landed.items, landed.quarantined)
        except duckdb.Error as error:
            raise LandingError(
                f"{page.entity} could not be landed: {error}",
                where=page.request_key,
                fix="Check the free space and `engine` in the settings; the next pull goes on behind the last page.",
            ) from error
        return landed

    def write_again(self, judged: JudgedPage, page_id: int) -> Landed:
        """Write the items and the quarantine of a page that has this number, inside the caller's transaction."""
        page = judged.page
        items = quarantined = 0
        # What was observed later wins over what was observed before in the same second.
        behind = page_id * LINES_OF_A_PAGE if page.observed else 0
        for part in judged.parts:
            lines = [behind + line for line in part.lines]
            refusals = [replace(one, line=behind + one.line) if one.line else one for one in part.refused]
            refusals += self.arrive(part.entity, lines, part.payloads)
            items += self._insert_items(page, part.entity, page_id) if part.lines else 0
            self._insert_quarantine(page, part.entity, refusals, page_id)
            quarantined += len(refusals)
        return Landed(items, quarantined)

    def names(self) -> dict[str, str]:
        """The repository behind each request whose key is an id, under its present name."""
        return dict(self._noted("names", {}))

    def arrive(self, entity: str, lines: list[int], payloads: list[bytes]) -> list[Refused]:
        """Read keys and times of payloads into the temporary table `arriving`; give back what cannot be read."""
        if not lines:
            return []
        texts = pl.Series(payloads, dtype=pl.Binary).cast(pl.String)
        with self.parquet(pl.DataFrame({"line": lines, "payload": texts}, schema=_ARRIVING)) as rows:
            self.con.execute(f"CREATE OR REPLACE TEMP TABLE arriving AS {reading_query(entity, rows)}")
        odd = self._take_unread()
        if not odd:
            return []
        unreadable: list[Refused] = []
        again: list[tuple[int, str]] = []
        for line, payload in odd:
            try:
                again.append((line, rewritten(entity, payload)))
            except (ValueError, RecursionError) as error:
                fault = Fault("not_json", None, f"cannot be read back: {error}")
                unreadable.append(refused(line, fault, payload.encode()))
        with self.parquet(pl.DataFrame(again, schema=_ARRIVING, orient="row")) as rows:
            self.con.execute(f"INSERT INTO arriving {reading_query(entity, rows)}")
        fault = Fault("not_json", None, "cannot be read back")
        return unreadable + [refused(line, fault, payload.encode()) for line, payload in self._take_unread()]

    def _take_unread(self) -> list[tuple[int, str]]:
        unread = self.con.execute("SELECT line, payload FROM arriving WHERE NOT is_read").fetchall()
        if unread:
            self.con.execute("DELETE FROM arriving WHERE NOT is_read")
        return unread

    def _insert_items(self, page: Page, entity: str, page_id: int) -> int:
        changed = _CHANGED if page.observed else ""
        (inserted,) = self.con.execute(
            "INSERT INTO items SELECT $entity, key, updated_at, occurred_at, $origin, $generation, line, $page_id, "
            f"hash(payload), payload FROM arriving {changed}",
            {
                "entity": entity,
                "origin": page.request_key,
                "generation": page.generation,
                "page_id": page_id,
            },
        ).fetchall()[0]
        return int(inserted)

    def _insert_quarantine(self, page: Page, entity: str, refusals: list[Refused], page_id: int) -> None:
        here = {"entity": entity, "origin": page.request_key}
        if page.observed and refusals:
            refusals = self._newly_refused(here, refusals)
        # A refusal of the whole file ends with the next page that says otherwise.
        self.con.execute("DELETE FROM quarantine WHERE entity = $entity AND origin = $origin AND line = 0", here)
        if page.forget_refusals_after_line is not None:
            self.con.execute(
                "DELETE FROM quarantine WHERE entity = $entity AND origin = $origin AND generation = $generation "
                "AND line > $line",
                {**here, "generation": page.generation, "line": page.forget_refusals_after_line},
            )
        if not refusals:
            return
        frame = pl.DataFrame([astuple(refusal) for refusal in refusals], schema=_REFUSED, orient="row")
        with self.parquet(frame) as rows:
            self.con.execute(
                "INSERT INTO quarantine SELECT $entity, $origin, $generation, line, reason, json_path, detail, sha256, "
                f"excerpt, $page_id, payload FROM {rows}",
                {**here, "generation": page.generation, "page_id": page_id},
            )

    def _newly_refused(self, here: dict[str, str], refusals: list[Refused]) -> list[Refused]:
        """Those that do not stand in quarantine already: what an API shows is looked at again and again."""
        found = self.con.execute(
            "SELECT sha256 FROM quarantine WHERE entity = $entity AND origin = $origin AND line > 0", here
        ).fetchall()
        known = {digest for (digest,) in found}
        return [refusal for refusal in refusals if refusal.line == 0 or refusal.sha256 not in known]

    def _insert_page(self, page: Page, items: int, quarantined: int) -> None:
        window, answered = page.window or TimeWindow(), page.answered
        self.con.execute(
            f"INSERT INTO pages VALUES ({', '.join('?' * 17)})",
            [
                self._last_page_id,
                page.entity,
                page.request_key,
                page.generation,
                self.now,
                page.status,
                page.etag,
                page.sha256,
                items,
                quarantined,
                page.total_count,
                window.start.astimezone(UTC).replace(tzinfo=None) if window.start else None,
                window.end.astimezone(UTC).replace(tzinfo=None) if window.end else None,
                answered.kind if answered else None,
                answered.request if answered else None,
                answered.next_url if answered else None,
                answered.body if answered else None,
            ],
        )
        if page.cursor is None:
            return
        request = [page.entity, page.request_key]
        self.con.execute("DELETE FROM cursors WHERE entity = ? AND request_key = ?", request)
        self.con.execute("INSERT INTO cursors VALUES (?, ?, ?, ?)", [*request, json.dumps(dict(page.cursor)), self.now])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what the block writes."""
        self.con.begin()
        try:
            yield
        except BaseException:
            self.con.rollback()
            raise
        self.con.commit()

    @contextmanager
    def parquet(self, frame: pl.DataFrame) -> Iterator[str]:
        """A frame as a relation that DuckDB can read, for as long as the block lasts."""
        path = self._work / f"{uuid.uuid4().hex}.parquet"
        try:
            frame.write_parquet(path, compression="uncompressed", statistics=False)
            literal = glob.escape(str(path)).replace("'", "''")
            yield f"read_parquet('{literal}')"
        finally:
            path.unlink(missing_ok=True)


def _create(settings: Settings, new: Path, path: Path) -> None:
    """Make an empty landing file; it appears whole, and one that another process has made meanwhile is kept."""
    with engine.connect(settings, new) as con:
        create_tables(con)
    try:
        path.hardlink_to(new)
    except OSError:  # somebody was faster, or the file system has no links
        if not path.exists():
            new.replace(path)
    new.unlink(missing_ok=True)


@contextmanager
def work_folder(settings: Settings) -> Iterator[Path]:
    """A folder for half-written files, removed at the end; those that killed pulls left are removed too."""
    settings.temp_dir.mkdir(parents=True, exist_ok=True)
    for left in settings.temp_dir.glob(f"{_WORK_PREFIX}*"):
        if left.stat().st_mtime < time.time() - _LEFT_OVER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    folder = settings.temp_dir / f"{_WORK_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
