"""The version of a lake's tables: which release can read what another one wrote.

Landing files are migrated (`analytics.landing.schema`); the lake is derived from them, so that an older one is built
anew, without any source. Kept across builds are tables whose rows cannot be derived again: when a finding was first
seen, what was judged, what was restated. They are read by column name, and a column that they lack is NULL.
"""

from __future__ import annotations

import json

from analytics.errors import LakeError
from analytics.lake.places import lake_of
from analytics.settings import Settings

# Raised when a table's columns change their meaning, or a stage needs a column that an earlier build did not write.
LAKE_VERSION = 2
# Written by 0.1.0, which noted none.
FIRST_VERSION = 1


def lake_version(settings: Settings) -> int | None:
    """The version of the lake, None where there is no lake; raises LakeError for a note that cannot be read."""
    lake = lake_of(settings)
    note = lake.read_note()
    if note is None:
        return None if lake.is_empty() else FIRST_VERSION
    try:
        return int(json.loads(note)["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LakeError(
            "does not say the version of the lake",
            where=lake.note_place(),
            fix="Remove it and run `quarterdeck build`.",
        ) from error


def check_lake_version(settings: Settings, *, derives: bool) -> None:
    """Raise LakeError for a lake of a newer release and, where a stage `derives` from it, for one of an older one."""
    found = lake_version(settings)
    if found is None or found == LAKE_VERSION:
        return
    if found > LAKE_VERSION:
        raise LakeError(
            f"was written by a newer version of Quarterdeck (lake version {found}; this one knows {LAKE_VERSION})",
            where=lake_of(settings).place(),
            fix="Use the newer version, or another `storage`.",
        )
    if derives:
        raise LakeError(
            f"was built by an earlier version of Quarterdeck (lake version {found}; this one has {LAKE_VERSION})",
            where=lake_of(settings).place(),
            fix="Run `quarterdeck build`, which derives it anew from what is landed; no source is read.",
        )


def note_lake_version(settings: Settings) -> None:
    """Note that every derived table is of this version, at once."""
    text = (json.dumps({"version": LAKE_VERSION}) + "\n").encode()
    lake = lake_of(settings)
    if lake.read_note() != text:
        lake.write_note(text)
