"""The fake Jira on 127.0.0.1, Cloud or Data Center: a little JQL, both ways of paging, changes in part."""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.fakes.jira.world import Raw, World
from tests.fakes.serving import FakeApi, Query

TOKEN = "canaryJiraToken01"
EMAIL = "bot@acme.test"
FIELDS = {"Affected service": "customfield_10050", "Impact began": "customfield_10051", "Deployment": "customfield_7"}
_JQL = re.compile(
    r'\(issuetype = "?(?P<kind>\w+)"?\)(?: AND updated >= "(?P<since>[\d-]{10} \d\d:\d\d)")? '
    r"ORDER BY updated ASC, key ASC"
)


class FakeJira(FakeApi):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        # No more issues come on a page than the server likes, and no more changes with an issue.
        self.page_items = 100
        self.changes_shown = 100
        # What happens right after a page was given, once each.
        self.meanwhile: deque[Callable[[], None]] = deque()

    def is_welcome(self, authorization: str | None) -> bool:
        basic = base64.b64encode(f"{EMAIL}:{TOKEN}".encode()).decode()
        return authorization == (f"Basic {basic}" if self.world.is_cloud else f"Bearer {TOKEN}")

    def answer(self, path: str, query: Query) -> tuple[int, Any]:
        asked = {name: values[-1] for name, values in query.items()}
        path = path.removeprefix("/rest/api/2/")
        world = self.world
        if path == "serverInfo":
            return 200, {"deploymentType": "Cloud" if world.is_cloud else "Server", "versionNumbers": [9, 12, 0]}
        if path == "myself":
            return 200, {"name": "bot", "timeZone": world.zone}
        if path == "field":
            return 200, [{"id": native_id, "name": name, "clauseNames": [name]} for name, native_id in FIELDS.items()]
        if path == ("search/jql" if world.is_cloud else "search"):
            return self._search(asked, set(query["fields"]))
        match = re.fullmatch(r"issue/(\d+)/changelog", path)
        if match and world.is_cloud:
            start, size = int(asked["startAt"]), min(int(asked["maxResults"]), 100)
            found = world.histories[match[1]]
            return 200, {"values": found[start : start + size], "isLast": start + size >= len(found)}
        return 404, {"errorMessages": ["null for uri"]}

    def _search(self, asked: dict[str, str], fields: set[str]) -> tuple[int, Any]:
        jql = asked["jql"] if "ORDER BY" in asked["jql"] else f"({asked['jql']}) ORDER BY updated ASC, key ASC"
        match = _JQL.fullmatch(jql)
        if match is None:
            return 400, {"errorMessages": [f"Error in the JQL Query: {asked['jql']}"], "errors": {}}
        assert asked.get("expand", "changelog") == "changelog"
        found = [one for one in self.world.issues if one["fields"]["issuetype"]["name"] == match["kind"]]
        if match["since"]:
            # Of a local time that comes twice the second is meant: nobody must count on the first.
            local = datetime.strptime(match["since"], "%Y-%m-%d %H:%M").replace(
                tzinfo=ZoneInfo(self.world.zone), fold=1
            )
            found = [one for one in found if _updated(one) >= local]
        found.sort(key=lambda one: (_updated(one), int(one["id"])))
        start = int(asked.get("nextPageToken" if self.world.is_cloud else "startAt", 0))
        size = min(int(asked["maxResults"]), self.page_items)
        page = [self._shown(one, fields) for one in found[start : start + size]]
        total = len(found)
        if self.meanwhile:
            self.meanwhile.popleft()()
        if not self.world.is_cloud:
            return 200, {"issues": page, "startAt": start, "maxResults": size, "total": total}
        is_last = start + size >= total
        return 200, {"issues": page, "isLast": is_last, **({} if is_last else {"nextPageToken": str(start + size)})}

    def _shown(self, raw: Raw, fields: set[str]) -> Raw:
        histories = self.world.histories[raw["id"]]
        # Cloud shows the newest changes, the newest first; Data Center all of them, the oldest first.
        shown = list(reversed(histories))[: self.changes_shown] if self.world.is_cloud else list(histories)
        log = {"startAt": 0, "maxResults": len(shown), "total": len(histories), "histories": shown}
        chosen = {name: value for name, value in raw["fields"].items() if name in fields}
        return {"id": raw["id"], "key": raw["key"], "fields": chosen, "changelog": log}


def _updated(raw: Raw) -> datetime:
    return datetime.fromisoformat(raw["fields"]["updated"])
