"""What is noted of a lake as a whole: which release can read what another one wrote, and which stage has not ended.

Landing files are migrated (`analytics.landing.schema`); the lake is derived from them, so that an older one is built
anew, without any source. Kept across builds are tables whose rows cannot be derived again: when a finding was first
seen, what was judged, what was restated. They are read by column name, and a column that they lack is NULL.

A stage that replaces several tables notes that it has begun and that it has ended. Killed between, it leaves tables of
two states side by side; whatever derives from them refuses until that stage has been run again. A lake of a version
that noted no beginning has none that is unfinished: what it says is what was done to its end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from analytics.errors import LakeError
from analytics.lake.places import lake_of
from analytics.settings import Settings

# Raised when a table's columns change their meaning, or a stage needs a column that an earlier build did not write.
LAKE_VERSION = 2
# Written by 0.1.0, which noted none.
FIRST_VERSION = 1
# Those that note when they have begun.
_STAGES = frozenset({"build", "verify"})


@dataclass(frozen=True)
class LakeNote:
    """The version of a lake's derived tables, and the stages that have begun to write some and have not ended."""

    version: int
    unfinished: frozenset[str] = frozenset()


def lake_note(settings: Settings) -> LakeNote | None:
    """What is noted of the lake, None where there is no lake; raises LakeError for a note that cannot be read."""
    lake = lake_of(settings)
    text = lake.read_note()
    if text is None:
        return None if lake.is_empty() else LakeNote(FIRST_VERSION)
    try:
        found = json.loads(text)
        unfinished = found.get("unfinished", [])
        # No command would end a stage that there is not.
        if not isinstance(unfinished, list) or not _STAGES.issuperset(unfinished):
            raise ValueError(unfinished)
        return LakeNote(int(found["version"]), frozenset(unfinished))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise LakeError(
            "does not say the version of the lake, and which stages have not ended",
            where=lake.note_place(),
            # It may have said of either that it had not ended.
            fix="Remove it and run `quarterdeck build`, then `quarterdeck verify`.",
        ) from error


def lake_version(settings: Settings) -> int | None:
    """The version of the lake, None where there is no lake; raises LakeError as `lake_note` does."""
    note = lake_note(settings)
    return None if note is None else note.version


def check_lake(settings: Settings, stage: str, *, derives: bool) -> None:
    """Raise LakeError for a lake that a stage must not write.

    That is one of a newer release and, where the stage `derives` from it, one of an older release and one that another
    stage has begun to write and not written to its end.
    """
    note = lake_note(settings)
    if note is None:
        return
    if note.version > LAKE_VERSION:
        raise LakeError(
            f"was written by a newer version of Quarterdeck (lake version {note.version}; this one knows "
            f"{LAKE_VERSION})",
            where=lake_of(settings).place(),
            fix="Use the newer version, or another `storage`.",
        )
    if not derives:
        return
    for unfinished in sorted(note.unfinished - {stage}):
        raise LakeError(
            f"the last {unfinished} has not come to its end, so that its tables are of two states; {stage} would mix "
            "them",
            where=lake_of(settings).place(),
            fix=f"Run `quarterdeck {unfinished}`, then this again; if it runs on another machine, let it finish.",
        )
    if note.version < LAKE_VERSION:
        raise LakeError(
            f"was built by an earlier version of Quarterdeck (lake version {note.version}; this one has "
            f"{LAKE_VERSION})",
            where=lake_of(settings).place(),
            fix="Run `quarterdeck build`, which derives it anew from what is landed; no source is read.",
        )


def note_begun(settings: Settings, stage: str) -> None:
    """Note that from now on tables of a stage may be of two states."""
    before = lake_note(settings)
    after = before or LakeNote(LAKE_VERSION)
    _change(settings, before, replace(after, unfinished=after.unfinished | {stage}))


def note_lake_version(settings: Settings, *ended: str) -> None:
    """Note that every derived table is of this version, at once with the end of stages."""
    before = lake_note(settings)
    unfinished = before.unfinished if before else frozenset()
    _change(settings, before, LakeNote(LAKE_VERSION, unfinished - {*ended}))


def _change(settings: Settings, before: LakeNote | None, after: LakeNote) -> None:
    if after != before:
        told = {"version": after.version} | ({"unfinished": sorted(after.unfinished)} if after.unfinished else {})
        lake_of(settings).write_note((json.dumps(told) + "\n").encode())
