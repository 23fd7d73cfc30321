"""Artifact deployment records, by the digest of each artifact: where it runs now, as somebody told GitHub.

GitHub overwrites the record of a place with the next one; what was landed stays. Source: supply-chain.md section 1 (The
join), GitHub's REST API for artifact metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from analytics import progress
from analytics.sources.github.client import GitHubClient, NotFoundError, RefusedError
from analytics.sources.github.pages import page_of
from analytics.sources.github.sweep import Sight
from analytics.sources.port import Answered, Page, Refusal, Wanted

_ENTITY = "deployment_records"
_logger = logging.getLogger(__name__)


def deployment_record_pages(
    client: GitHubClient, wanted: Sequence[Wanted], sights: Mapping[str, Sight]
) -> Iterator[Page]:
    """Pages of the records of digests (`native_id`), one request each; `answered.request` is the digest.

    A digest without any, or that GitHub does not know, has none. An owner whose records must not be read is noted once
    (`not_available`) and asked for nothing more by this pull.
    """
    refused: set[str] = set()
    for number, want in enumerate(wanted):
        sight = sights[want.request_key]
        owner = sight.name.split("/", 1)[0]
        if owner in refused:
            continue
        progress.report("pull", f"{owner}: deployment records", number, len(wanted))
        path: str | None = f"/orgs/{owner}/artifacts/{want.native_id}/metadata/deployment-records"
        while path:
            try:
                answer = client.get(path)
            except NotFoundError:
                answer = None
            except RefusedError as error:
                refused.add(owner)
                _logger.warning("deployment records of %s: %s", owner, error)
                note = Refusal(0, "not_available", f"deployment records of {owner}: {error}")
                yield Page(_ENTITY, want.request_key, 1, (), (note,), None, 403)
                break
            page = page_of(_ENTITY, sight, _ENTITY, answer, None)
            body = page.answered.body if page.answered else ""
            path = answer.next_url if answer else None
            yield replace(page, answered=Answered(_ENTITY, want.native_id, body, path))
