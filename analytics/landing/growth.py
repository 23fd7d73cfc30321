"""What has landed since somebody last looked, where all that had landed then is still there, unchanged.

Items are only ever added, each at the end of its file; whatever else happened to a file (it was judged anew, restored,
a repository was renamed) is seen by a fingerprint of what was read before. Source: spec architecture.md section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from analytics.landing.winners import ROW_BITS, create_contenders

_FILE = f"(place // {2**ROW_BITS})"
_ROW = f"(place % {2**ROW_BITS})"
# `version` is a fingerprint of the payload.
_ITEM = "hash(source, entity, key, updated_at, occurred_at, origin, generation, line, page_id, version)"


@dataclass(frozen=True)
class Reach:
    """How far a landing file was read: one more than its last row, its items, and two sums over them."""

    end: int
    items: int
    folded: int
    summed: int

    def with_more(self, more: Reach) -> Reach:
        """The reach after items that came later."""
        return Reach(more.end, self.items + more.items, self.folded ^ more.folded, self.summed + more.summed)


def read_reach(con: duckdb.DuckDBPyConnection, noted: Mapping[int, Reach]) -> tuple[dict[int, Reach], bool]:
    """How far each landing file reaches now, by its number, and whether what was `noted` is still so.

    Creates the table `fresh_items` (entity, place): everything that landed since, if it is.
    """
    is_fresh = f"{_ROW} >= CASE {_FILE} {_cases(noted)} ELSE 0 END" if noted else "true"
    rows = con.execute(
        f"SELECT {_FILE}, {is_fresh} AS is_fresh, max({_ROW}) + 1, count(*), bit_xor({_ITEM}), "
        f"sum({_ITEM} % {2**32}) FROM landed_items GROUP BY 1, 2"
    ).fetchall()
    before: dict[int, Reach] = {}
    fresh: dict[int, Reach] = {}
    for number, is_new, end, items, folded, summed in rows:
        (fresh if is_new else before)[int(number)] = Reach(int(end), int(items), int(folded), int(summed))
    con.execute(f"CREATE OR REPLACE TABLE fresh_items AS SELECT entity, place FROM landed_items WHERE {is_fresh}")
    reach = {
        number: before[number].with_more(fresh[number]) if number in before and number in fresh else one
        for number, one in {**before, **fresh}.items()
    }
    return reach, before == dict(noted)


def _cases(noted: Mapping[int, Reach]) -> str:
    return " ".join(f"WHEN {number} THEN {reach.end}" for number, reach in noted.items())


def create_changed_winners(con: duckdb.DuckDBPyConnection, entity: str) -> bool:
    """Create the temporary views `winners_now` and `winners_before` of the keys whose winning item has changed.

    `winners_now` has the columns of `winners`; `winners_before` (source, origin, line) says where the rows that leave
    come from. Needs `fresh_items`. False when the places of `winners_before` do not tell its items from others.
    """
    con.execute(
        "CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT hash(item.key) AS key_hash FROM landed_items AS item "
        "SEMI JOIN (SELECT place FROM fresh_items WHERE entity = $entity) AS fresh USING (place)",
        {"entity": entity},
    )
    create_contenders(con, entity, "touched")
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE changed_winners AS
        SELECT arg_max(place, standing) AS now_place,
               arg_max(place, standing) FILTER (NOT is_fresh) AS before_place
        FROM (SELECT c.*, fresh.place IS NOT NULL AS is_fresh FROM contenders AS c
              LEFT JOIN fresh_items AS fresh ON fresh.place = c.place)
        GROUP BY key
        HAVING now_place IS DISTINCT FROM before_place
        """
    )
    con.execute("DROP TABLE contenders")
    con.execute(
        "CREATE OR REPLACE TEMP VIEW winners_now AS "
        "SELECT source, origin, line, key, updated_at, occurred_at, payload FROM landed_items "
        "SEMI JOIN (SELECT now_place AS place FROM changed_winners) AS now USING (place)"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE winners_before AS SELECT source, origin, line FROM landed_items "
        "SEMI JOIN (SELECT before_place AS place FROM changed_winners) AS before USING (place)"
    )
    (others,) = con.execute(
        """
        SELECT count(*) FROM (SELECT source, origin, line, place FROM landed_items WHERE entity = $entity) AS item
        SEMI JOIN winners_before USING (source, origin, line)
        ANTI JOIN (SELECT before_place AS place FROM changed_winners WHERE before_place IS NOT NULL) AS before
            USING (place)
        ANTI JOIN fresh_items USING (place)
        """,
        {"entity": entity},
    ).fetchall()[0]
    return not others
