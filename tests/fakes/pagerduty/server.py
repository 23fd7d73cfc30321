"""The fake PagerDuty on 127.0.0.1: strict about what it is asked, with a key, pages and limits."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from tests.fakes.pagerduty.world import World
from tests.fakes.serving import FakeApi, Query, http_date

TOKEN = "canaryPagerDutyKey01"
_PAGED = {"limit", "offset", "total"}
_SPAN = {"since", "until", "time_zone"}


class FakePagerDuty(FakeApi):
    def __init__(self, world: World, listed: int = 10_000) -> None:
        super().__init__()
        self.world = world
        self.listed = listed

    def is_welcome(self, authorization: str | None) -> bool:
        return authorization == f"Token token={TOKEN}"

    def date(self) -> str:
        return http_date(self.world.now)

    def answer(self, path: str, query: Query) -> tuple[int, Any]:
        asked = {name: values[-1] for name, values in query.items()}
        if path == "/incidents":
            assert asked.keys() <= _PAGED | _SPAN | {"date_range", "sort_by"}, asked
            assert asked.get("sort_by", "created_at:asc") == "created_at:asc"
            found = self.world.incidents if asked.get("date_range") == "all" else _within(self.world.incidents, asked)
            return 200, self._page("incidents", sorted(found, key=lambda one: (one["created_at"], one["id"])), asked)
        if path == "/log_entries":
            assert asked.keys() <= _PAGED | _SPAN | {"is_overview"}, asked
            # The newest first.
            return 200, self._page("log_entries", list(reversed(_within(self.world.log_entries, asked))), asked)
        match = re.fullmatch(r"/incidents/(\w+)(/log_entries)?", path)
        found = [one for one in self.world.incidents if match and one["id"] == match[1]]
        if match is None or not found:
            return 404, {"error": {"message": "Not Found", "code": 2100}}
        if match[2] is None:
            return 200, {"incident": found[0]}
        entries = [entry for entry in self.world.log_entries if entry["incident"]["id"] == match[1]]
        return 200, self._page("log_entries", list(reversed(entries)), asked)

    def _page(self, name: str, found: list[Any], asked: dict[str, str]) -> dict[str, Any]:
        limit, offset = int(asked.get("limit", 25)), int(asked.get("offset", 0))
        assert limit <= 100
        assert limit + offset <= self.listed
        total = len(found) if asked.get("total") == "true" else None
        more = offset + limit < len(found)
        return {name: found[offset : offset + limit], "limit": limit, "offset": offset, "more": more, "total": total}


def _within(found: list[dict[str, Any]], asked: dict[str, str]) -> list[dict[str, Any]]:
    since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
    assert until - since <= timedelta(days=180)
    return [one for one in found if since <= datetime.fromisoformat(one["created_at"]) <= until]
