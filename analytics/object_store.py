"""An object store, through fsspec: objects are read, written whole, listed and removed, and what fails is in words.

An object is put whole or not at all, and nothing is renamed. Credentials are looked up when a store is opened, stay in
its client, and reach no message; a store is pickled by what refers to them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analytics.errors import LakeError, SourceError
from analytics.faults import DAMAGED_STORED_FIX
from analytics.secrets import Secret, scrub

_EXTRAS = {"s3": 'pip install ".[s3]"', "s3a": 'pip install ".[s3]"'}
# What each library calls the moment of an object's last change.
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
# Which AWS's own libraries look for.
_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_AT_ONCE = 16
_SAID = 300


@dataclass(frozen=True)
class Stored:
    """An object as a listing shows it; `changed_at` is an aware time, None where the store does not say."""

    size: int
    changed_at: datetime | None


class ObjectStore:
    """What lies below one URL; `names` are relative to it. Every method raises LakeError for what the store refuses."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url.rstrip("/")
        self._options = dict(options)
        # Known from what names them, so that reading asks for no object's size.
        self.sizes: dict[str, int] = {}
        with self._words("opened"):
            self._secrets = [*_strings_of_secrets(self._options), *(os.environ.get(name, "") for name in _AWS_SECRETS)]
            self._files = self._open()
            self._root = str(self._files._strip_protocol(self.url)).rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.url, self._options)

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def _open(self) -> Any:
        import fsspec

        scheme = self.url.partition("://")[0]
        try:
            kind = fsspec.get_filesystem_class(scheme)
        except ImportError:
            raise LakeError(
                f"{scheme}:// needs a library that is not installed",
                where=self.url,
                fix=f"Install it: {_EXTRAS.get(scheme, f'the fsspec implementation of {scheme}')}.",
            ) from None
        except ValueError:
            raise LakeError(
                f"{scheme}:// is no object store that fsspec knows", where=self.url, fix="Correct `storage.lake`."
            ) from None
        # Listings are never remembered: other machines write too. Neither is the client, which holds the secrets.
        return kind(**{"use_listings_cache": False, "skip_instance_cache": True, **_revealed(self._options)})

    def url_of(self, name: str) -> str:
        """The address of an object, for engines that have their own access."""
        return f"{self.url}/{name}"

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """An object's bytes, None where there is none; raises LakeError for one that is larger."""
        with self._words("read", name):
            try:
                # One more than may be, so that a hostile size is not fetched.
                content: bytes = self._files.cat_file(self._path(name), start=0, end=most_bytes + 1)
            except FileNotFoundError as error:
                if _is_no_bucket(error):
                    raise
                return None
        return self._not_larger(name, content, most_bytes)

    def read_all(self, names: Sequence[str], most_bytes: int) -> dict[str, bytes]:
        """The bytes of some small objects, side by side; one that is gone is left out, a larger one is an error."""
        if not names:
            return {}
        paths = {self._path(name): name for name in names}
        with self._words("read", names[0]):
            found = self._files.cat_ranges(
                list(paths), [0] * len(paths), [most_bytes + 1] * len(paths), on_error="return"
            )
            for content in found:
                if isinstance(content, BaseException) and not isinstance(content, FileNotFoundError):
                    raise content
        return {
            name: self._not_larger(name, content, most_bytes)
            for name, content in zip(names, found, strict=True)
            if not isinstance(content, BaseException)
        }

    def _not_larger(self, name: str, content: bytes, most_bytes: int) -> bytes:
        if len(content) > most_bytes:
            raise LakeError(f"is larger than {most_bytes:,} bytes", where=self.url_of(name), fix="Remove it.")
        return content

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to, and without, `end`; any number of threads may read."""
        with self._words("read", name):
            found: bytes = self._files.cat_file(self._path(name), start=start, end=end)
            return found

    def size(self, name: str) -> int:
        """An object's size in bytes."""
        if name not in self.sizes:
            with self._words("read", name):
                self.sizes[name] = int(self._files.info(self._path(name))["size"])
        return self.sizes[name]

    def write(self, name: str, content: bytes) -> None:
        """Put an object in one request: it is there whole, or as it was before."""
        with self._words("written", name):
            self._files.pipe_file(self._path(name), content)

    def upload(self, files: Mapping[str, Path]) -> None:
        """Put local files under their names, several at a time."""
        names = sorted(files)
        for begin in range(0, len(names), _AT_ONCE):
            some = names[begin : begin + _AT_ONCE]
            with self._words("written", some[0]):
                self._files.put([str(files[name]) for name in some], [self._path(name) for name in some])
        self.sizes.update({name: files[name].stat().st_size for name in names})

    def list(self, folder: str) -> dict[str, Stored]:
        """Every object below a folder, by its name, however many there are."""
        with self._words("listed", folder):
            found = self._files.find(self._path(folder), detail=True)
            return {
                str(path)[len(self._root) + 1 :]: Stored(int(entry.get("size") or 0), _changed_at(entry))
                for path, entry in found.items()
                if entry.get("type") != "directory"
            }

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; one that is gone already is no error."""
        if names:
            with self._words("removed", names[0]):
                try:
                    self._files.rm([self._path(name) for name in names])
                except FileNotFoundError as error:
                    if _is_no_bucket(error):
                        raise

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _words(self, what: str, name: str = "") -> Iterator[None]:
        """Tell what a store or its library refuses in words, and without secrets."""
        try:
            yield
        except LakeError:
            raise
        except SourceError as error:  # a secret that is not there
            raise LakeError(error.what, where=error.where or self.url, fix=error.fix) from None
        except Exception as error:
            said, fix = self._explained(error)
            # Without the error behind it: libraries put requests into theirs.
            raise LakeError(
                f"cannot be {what}: {said}", where=self.url_of(name) if name else self.url, fix=fix
            ) from None

    def _explained(self, error: Exception) -> tuple[str, str]:
        kind = type(error).__name__
        words = " ".join(scrub(str(error), getattr(self, "_secrets", ())).split())[:_SAID] or kind
        if _is_no_bucket(error):
            return "the bucket does not exist", "Make the bucket, or correct `storage.lake`."
        if isinstance(error, FileNotFoundError):
            return "it is gone", f"Run the stage again. If it stays so: {DAMAGED_STORED_FIX}"
        if isinstance(error, PermissionError):
            return f"no permission ({words})", "Let these credentials list, read, write and delete below it."
        if "Credentials" in kind:
            return (
                f"no credentials ({words})",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `storage.options`.",
            )
        if isinstance(error, TimeoutError | ConnectionError) or "Connect" in kind or "Timeout" in kind:
            return f"no answer ({words})", "Check the network and `endpoint_url` of `storage.options`."
        return f"{kind}: {words}", "Check `storage`; `quarterdeck doctor` tries it."


_STORES: dict[tuple[str, str, int], ObjectStore] = {}


def open_store(url: str, options: Mapping[str, Any]) -> ObjectStore:
    """The store of a URL, one per process for the same credentials: a client takes a while to set up.

    Raises LakeError where its library is missing, a secret is not there, or an option is wrong.
    """
    try:
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        known = json.dumps([_revealed(options), environment], sort_keys=True, default=str)
    except SourceError as error:
        raise LakeError(error.what, where=error.where or url, fix=error.fix) from None
    key = (url, hashlib.sha256(known.encode()).hexdigest(), os.getpid())
    if key not in _STORES:
        _STORES[key] = ObjectStore(url, options)
    return _STORES[key]


def _revealed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _revealed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    return value.reveal() if isinstance(value, Secret) else value


def _strings_of_secrets(value: Any) -> Iterator[str]:
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings_of_secrets(item)


def _is_no_bucket(error: BaseException) -> bool:
    answer = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return isinstance(answer, dict) and answer.get("Error", {}).get("Code") == "NoSuchBucket"


def _changed_at(entry: Mapping[str, Any]) -> datetime | None:
    for name in _TIMES:
        value = entry.get(name)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
    return None
