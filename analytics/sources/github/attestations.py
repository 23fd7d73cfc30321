"""Attestations by the digests they speak of, asked for in bulk; the bundles lie elsewhere, compressed.

GitHub has no list of all attestations. Where a bundle lies in a store, its address is signed: no token goes there, and
the address is kept nowhere. Source: supply-chain.md section 1 (GitHub's API).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import cramjam
import msgspec
import requests

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.github.client import Answer, BadBodyError, GitHubClient, NotFoundError
from analytics.sources.github.pages import records_of
from analytics.sources.github.sweep import Sight
from analytics.sources.port import Answered, Page, Refusal, Wanted

DIGESTS_PER_REQUEST = 1024
PAGE_ITEMS = 100
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
TIMEOUT_SECONDS = 30
_CHUNK = 64 * 1024

# Gives the bytes behind an address; raises SourceError.
Fetch = Callable[[str], bytes]


def attestation_pages(
    client: GitHubClient, wanted: Sequence[Wanted], sights: Mapping[str, Sight], fetch: Fetch | None = None
) -> Iterator[Page]:
    """Pages of the attestations of digests (`native_id`), by the owner of their repositories.

    The last page of each question names the digests that need not be asked for again in `answered.request`. A bundle
    that cannot be fetched is refused (`fetch_failed`), and its digest asked for by the next pull.
    """
    get = fetch or stored_bundle
    owners: dict[str, list[str]] = {}
    for want in wanted:
        owners.setdefault(sights[want.request_key].name.split("/", 1)[0], []).append(want.native_id)
    for owner, digests in owners.items():
        unique = list(dict.fromkeys(digests))
        for start in range(0, len(unique), DIGESTS_PER_REQUEST):
            progress.report("pull", f"{owner}: attestations", start, len(unique))
            yield from _asked(client, owner, unique[start : start + DIGESTS_PER_REQUEST], get)


def _asked(client: GitHubClient, owner: str, digests: Sequence[str], fetch: Fetch) -> Iterator[Page]:
    after: str | None = None
    failed: set[str] = set()
    while True:
        body, following = _bulk(client, owner, digests, after)
        found: list[dict[str, Any]] = []
        refusals: list[Refusal] = []
        for digest, told in body:
            bundle = told.get("bundle")
            if bundle is None:
                try:
                    bundle = msgspec.json.decode(fetch(str(told.get("bundle_url") or "")))
                except (SourceError, msgspec.DecodeError, RecursionError) as error:
                    failed.add(digest)
                    what = error.what if isinstance(error, SourceError) else "the bundle is no JSON"
                    refusals.append(Refusal(len(refusals) + 1, "fetch_failed", f"a bundle of {digest}: {what}"))
                    continue
            found.append({"digest": digest, "repository_id": told.get("repository_id"), "bundle": bundle})
        text = msgspec.json.encode(found).decode()
        asked = [] if following else sorted(set(digests) - failed)
        # Bundles are public evidence, and are kept to the byte: scrubbing one would break its signature.
        records = records_of("attestations", text, owner)
        yield Page(
            entity="attestations",
            request_key=f"attestations/{owner}",
            generation=1,
            records=records.get("attestations", []),
            refusals=refusals,
            cursor=None,
            status=200,
            answered=Answered("attestations", msgspec.json.encode(asked).decode(), text),
            observed=True,
        )
        if following is None:
            return
        after = following


def _bulk(
    client: GitHubClient, owner: str, digests: Sequence[str], after: str | None
) -> tuple[list[tuple[str, dict[str, Any]]], str | None]:
    """What one answer tells of each digest, and the cursor of the next one."""
    query = f"?per_page={PAGE_ITEMS}" + (f"&after={after}" if after else "")
    sent = {"subject_digests": list(digests)}
    answer: Answer
    try:
        answer = client.post(f"/orgs/{owner}/attestations/bulk-list{query}", sent)
    except NotFoundError:
        # A person owns repositories too; a server without attestations knows neither.
        try:
            answer = client.post(f"/users/{owner}/attestations/bulk-list{query}", sent)
        except NotFoundError:
            return [], None
    body = msgspec.json.decode(answer.body)
    by_digest = body.get("attestations_subject_digests") if isinstance(body, dict) else None
    if not isinstance(by_digest, dict):
        raise BadBodyError("not_json", answer.body[:2048], where=answer.url)
    told = [
        (digest, one)
        for digest, ones in by_digest.items()
        for one in (ones if isinstance(ones, list) else ())
        if isinstance(one, dict)
    ]
    info = body.get("page_info")
    following = info.get("next") if isinstance(info, dict) and info.get("has_next") else None
    return told, following if isinstance(following, str) and following != after else None


def stored_bundle(address: str) -> bytes:
    """The bundle behind a signed address, without any credential; at most 16 MiB, compressed and not.

    Raises SourceError, whose words do not repeat the address.
    """
    parts = urlsplit(address)
    if parts.scheme != "https" and not _is_here(parts.hostname):
        raise SourceError("the address of the bundle is not encrypted")
    try:
        with requests.Session() as session:
            # Neither a token of ~/.netrc nor one of ours goes to the store.
            session.trust_env = False
            with session.get(address, timeout=TIMEOUT_SECONDS, stream=True, allow_redirects=False) as response:
                if response.status_code != 200:
                    raise SourceError(f"the store answered with status {response.status_code}")
                body = bytearray()
                for chunk in response.iter_content(_CHUNK):
                    body += chunk
                    if len(body) > MAX_BUNDLE_BYTES:
                        raise SourceError(f"the bundle is longer than {MAX_BUNDLE_BYTES:,} bytes")
    except (requests.RequestException, ValueError) as error:
        raise SourceError(f"the store cannot be reached ({type(error).__name__})") from None
    return decompressed(bytes(body))


def decompressed(data: bytes) -> bytes:
    """A raw snappy block; its announced length is looked at before anything is unpacked. Raises SourceError."""
    length = shift = 0
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    else:
        raise SourceError("the bundle is not compressed as announced")
    if length > MAX_BUNDLE_BYTES:
        raise SourceError(f"the bundle unpacks to more than {MAX_BUNDLE_BYTES:,} bytes")
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError:
        raise SourceError("the bundle is not compressed as announced") from None


def _is_here(host: str | None) -> bool:
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
