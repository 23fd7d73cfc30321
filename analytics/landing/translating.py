"""Records made anew from what an API answered, after their translation was changed; nobody is asked.

Bodies are read in the order in which they were landed, so that what was seen again unchanged is one item again.
Source: ingestion.md section 1 (typed tables can be rebuilt from raw).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from analytics.landing.pages import judge_page
from analytics.landing.store import LandingStore
from analytics.sources.port import Page, RawRecord

# An answer's records by entity: kind, body and the repository's name give them.
Translator = Callable[[str, str, str], Mapping[str, Sequence[RawRecord]]]

_ANSWERED = "(SELECT page_id FROM pages WHERE body <> '')"


def translate_anew(store: LandingStore, translator: Translator) -> int:
    """Make items and quarantine again from the kept bodies, inside the caller's transaction.

    Gives how many records differ from those that were there before.
    """
    con = store.con
    con.execute(
        "CREATE OR REPLACE TEMP TABLE before AS SELECT entity, origin, key, payload FROM items "
        f"WHERE page_id IN {_ANSWERED}"
    )
    con.execute(f"DELETE FROM items WHERE page_id IN {_ANSWERED}")
    # What was said about a request as a whole (line 0) is no record.
    con.execute(f"DELETE FROM quarantine WHERE line > 0 AND page_id IN {_ANSWERED}")
    names = store.names()
    numbers = [number for (number,) in con.execute(f"{_ANSWERED[1:-1]} ORDER BY page_id").fetchall()]
    for number in numbers:
        ((entity, key, generation, kind, body),) = con.execute(
            "SELECT entity, request_key, generation, kind, body FROM pages WHERE page_id = ?", [number]
        ).fetchall()
        repository = names.get(key.split("/", 1)[0], key)
        records = dict(translator(kind, body, repository))
        page = Page(entity, key, generation, records.pop(entity, ()), (), None, others=records, observed=True)
        store.write_again(judge_page(page), number)
    now = f"SELECT entity, origin, key, payload FROM items WHERE page_id IN {_ANSWERED}"
    (changed,) = con.execute(
        f"SELECT count(*) FROM ((FROM before EXCEPT {now}) UNION ALL ({now} EXCEPT FROM before))"
    ).fetchall()[0]
    return int(changed)
