"""File names made from names that anyone may have typed, and links that lead only where a reader expects."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit

MAX_SLUG = 60
MAX_URL = 2000
# Windows refuses these as file names, whatever follows the dot.
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d|index")


def page_names(names: Iterable[str]) -> dict[str, str]:
    """A file name per name, stable and unique: the name itself where it is a plain one, else a slug and a hash."""
    return {name: f"{_slug(name)}.html" for name in names}


def _slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:MAX_SLUG].strip("-")
    # A plain name that ends like a hash could meet the slug of another one.
    plain = slug == name and not _RESERVED.fullmatch(slug) and not re.search(r"-[0-9a-f]{10}$", slug)
    return slug if plain else f"{slug or 'service'}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def safe_url(url: str | None) -> str | None:
    """An http or https URL that may be a link, or None: no other scheme, no credentials, nothing invisible."""
    if url is None or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or "\\" in url:
        return None
    return url
