"""Running the git program so that neither a repository nor a server can make it do more than read.

Refs, messages, names, paths and a server's answers are hostile. What is pinned, and why, stands beside each list.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from analytics.errors import SourceError

# GIT_CONFIG_COUNT, through which every pin below travels, came with 2.31; an older git would ignore the pins.
MINIMUM_VERSION = (2, 31)
PROTOCOLS = ("file", "git", "http", "https", "ssh")
LOOK_SECONDS = 120.0
FETCH_SECONDS = 3600.0
# The name is ours alone, so that no `remote.origin.*` of a user's own configuration applies to it.
REMOTE = "quarterdeck"
# In a clone's configuration: the filter that it was made with.
FILTER_KEY = "quarterdeck.filter"

_ERROR_CHARACTERS = 2000
_STDERR_BYTES = 8192
_NOWHERE = "/nonexistent/quarterdeck"

# Whatever may start a program or change what is printed; they win over the repository's and the user's settings.
_PINNED = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.pager", "cat"),
    ("core.attributesFile", os.devnull),
    ("core.quotePath", "true"),
    # A stale or forged commit-graph would change which commits are listed.
    ("core.commitGraph", "false"),
    ("log.showSignature", "false"),
    ("diff.suppressBlankEmpty", "false"),
    ("protocol.ext.allow", "never"),
    ("fetch.recurseSubmodules", "false"),
    ("transfer.bundleURI", "false"),
    # Housekeeping ends with the fetch that started it, so that a time limit ends it too.
    ("gc.autoDetach", "false"),
    ("maintenance.autoDetach", "false"),
    # A transfer below 1,000 bytes a second for a minute is stalled.
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
)

# What people and CI systems use to reach a remote. Everything else named GIT_* is dropped: GIT_DIR of a hook that
# started us would redirect the reading, GIT_TRACE and GIT_CURL_VERBOSE would print credentials.
_KEPT_FOR_REMOTES = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|SSL_\w+|HTTP_\w+|PROXY_\w+|CONFIG_GLOBAL|CONFIG_SYSTEM|CONFIG_NOSYSTEM|"
    r"CONFIG_COUNT|CONFIG_KEY_\d+|CONFIG_VALUE_\d+)"
)

_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")
_AUTHORIZATION = re.compile(r"(authorization\s*:\s*)[^\r\n]*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def require_git() -> tuple[int, int]:
    """The installed git's version; raises SourceError when git is missing or older than 2.31."""
    program = shutil.which("git")
    if program is None:
        raise SourceError("the program git is not installed", fix="Install git 2.31 or later.")
    try:
        answer = subprocess.run([program, "version"], capture_output=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"git could not be started ({error})", where=program) from error
    match = re.search(rb"(\d+)\.(\d+)", answer.stdout)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < MINIMUM_VERSION:
        found = answer.stdout.decode("utf-8", "replace").strip()[:100] or "no version"
        raise SourceError(f"git is too old ({found})", where=program, fix="Install git 2.31 or later.")
    return version


def userinfo(location: str) -> str:
    """The part of a URL that may hold credentials: what stands before its host, or ''."""
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://(.*)", location, re.DOTALL)
    if match is None:
        return ""
    authority = match[1].split("/", 1)[0]
    if "@" in authority:
        return authority.rpartition("@")[0]
    # A password with an unescaped slash: what looks like a port is none.
    if "@" in match[1] and re.search(r":(?!\d*$)", authority):
        return match[1].rpartition("@")[0]
    return ""


def scrub(text: str, location: str = "") -> str:
    """A text without credentials: those of the location, any URL's userinfo and query, control characters."""
    hidden = userinfo(location)
    if hidden:
        user, _, password = hidden.partition(":")
        secrets = {f"{hidden}@", hidden, password, unquote(password)}
        if not password and location.lower().startswith("http"):
            secrets |= {user, unquote(user)}  # a token is often given as the user
        for secret in sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True):
            text = text.replace(secret, "***@" if secret.endswith("@") else "***")
    text = _USERINFO.sub(r"\1***@", text)
    text = _QUERY.sub(r"\1?***", text)
    text = _AUTHORIZATION.sub(r"\1***", text)
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class _Tail(threading.Thread):
    """The last bytes of a pipe, read to its end so that the writer never blocks."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._bytes = b""
        self._cut = False

    def run(self) -> None:
        with suppress(OSError, ValueError):  # closed under us after a kill
            while chunk := os.read(self._pipe.fileno(), 65536):
                self._cut |= len(self._bytes) + len(chunk) > _STDERR_BYTES
                self._bytes = (self._bytes + chunk)[-_STDERR_BYTES:]

    def text(self, location: str) -> str:
        # Scrubbed before it is cut to size, and without the first, broken word: half a URL would not be recognised.
        text = self._bytes.decode("utf-8", "replace")
        if self._cut:
            text = re.sub(r"\A\S*\s?", "", text)
        return scrub(text.replace("\r", "\n"), location).strip()[-_ERROR_CHARACTERS:].strip()


@dataclass(frozen=True)
class Git:
    """The git program on one repository, or on one remote when `url` is given.

    Reading a repository sees neither the user's nor the system's configuration and can reach no network. Only a
    remote keeps them, for credential helpers, proxies and certificates. `url` travels in the environment: it stands
    in no process list of ours and is written to no configuration, so that no later command can fetch by itself.
    """

    where: str
    fix: str
    folder: Path
    git_dir: Path | None = None
    url: str | None = None
    # Settings for this one remote, beside its URL.
    settings: tuple[tuple[str, str], ...] = ()

    @contextmanager
    def stream(
        self,
        *arguments: str,
        lines: Iterable[str] | None = None,
        feed: IO[bytes] | None = None,
        seconds: float | None = None,
        extra: Mapping[str, str] | None = None,
        accepted: frozenset[int] = frozenset({0}),
    ) -> Iterator[IO[bytes]]:
        """Run git and give its output to be read to the end; `lines` or `feed` become its input.

        Raises SourceError with git's scrubbed words when it exits badly, takes longer than `seconds`, or when the
        reader raises EOFError because the output ended early. The process and its children end with the block.
        """
        with ExitStack() as stack:
            if lines is not None:
                feed = stack.enter_context(tempfile.TemporaryFile())
                feed.writelines(line.encode("utf-8", "surrogateescape") + b"\n" for line in lines)
                feed.seek(0)
            try:
                process = stack.enter_context(
                    subprocess.Popen(  # noqa: S603 - no shell, and no argument of a stranger can become an option
                        ["git", *arguments],  # noqa: S607 - found on PATH, as the user does
                        stdin=feed if feed is not None else subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        env=self._environment(extra or {}),
                        cwd=self.folder,
                        # Without a terminal nothing can ask for a password, and a kill reaches ssh and curl too.
                        start_new_session=True,
                    )
                )
            except OSError as error:
                raise SourceError(
                    f"git could not be started ({error.strerror})", where=self.where, fix=self.fix
                ) from error
            assert process.stdout is not None
            assert process.stderr is not None
            tail = _Tail(process.stderr)
            tail.start()
            late = threading.Event()
            timer = threading.Timer(seconds or 0, _end, (process, late))
            if seconds is not None:
                timer.start()
            ended_early = False
            try:
                try:
                    yield process.stdout
                except EOFError:
                    ended_early = True
                process.stdout.close()
                code = process.wait()
            finally:
                timer.cancel()
                _kill(process)
                process.wait()
                tail.join(timeout=10)
            command = f"git {arguments[0]}"
            if late.is_set():
                raise SourceError(f"{command} took longer than {seconds:g} seconds", where=self.where, fix=self.fix)
            # Closing the pipe before its end ends git as well; its exit code then tells nothing.
            if ended_early and code in (0, -signal.SIGPIPE):
                raise SourceError(f"{command} ended early", where=self.where, fix=self.fix)
            if code not in accepted:
                words = tail.text(self.url or "")
                told = f"{command} failed (exit code {code})"
                raise SourceError(f"{told}: {words}" if words else told, where=self.where, fix=self.fix)

    def output(
        self,
        *arguments: str,
        lines: Iterable[str] | None = None,
        seconds: float | None = None,
        accepted: frozenset[int] = frozenset({0}),
        limit: int = 1024 * 1024,
    ) -> bytes:
        """What git prints, at most `limit` bytes of it; raises SourceError as `stream` does, or when it is more."""
        with self.stream(*arguments, lines=lines, seconds=seconds, accepted=accepted) as out:
            answer = out.read(limit + 1)
            if len(answer) > limit:
                raise SourceError(f"git {arguments[0]} printed more than {limit} bytes", where=self.where, fix=self.fix)
        return answer

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        keep = _KEPT_FOR_REMOTES.fullmatch if self.url is not None else lambda _: None
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or keep(k)}
        environment |= {
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            # A missing object is never fetched by itself. Older git does not know the variable: there the lack of a
            # URL and of any allowed protocol end the attempt.
            "GIT_NO_LAZY_FETCH": "1",
            # Never looks above its folder for some other repository.
            "GIT_CEILING_DIRECTORIES": str(self.folder.parent),
        }
        if self.git_dir is not None:
            # A named repository also needs no safe.directory: the settings name it, and nothing of it is run.
            environment["GIT_DIR"] = str(self.git_dir)
        settings = list(_PINNED)
        if self.url is None:
            environment |= {
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_ATTR_NOSYSTEM": "1",
                "GIT_ALLOW_PROTOCOL": "none",
                # The index of a checked-out clone would lend its .gitattributes to every diff.
                "GIT_INDEX_FILE": _NOWHERE,
            }
            # A larger file is compared by its id: a change of a 124 MB text took 1.2 GB and 9 s, then 5 MB.
            settings.append(("core.bigFileThreshold", "8m"))
        else:
            environment["GIT_ALLOW_PROTOCOL"] = ":".join(PROTOCOLS)
            settings += [(f"remote.{REMOTE}.url", self.url), *self.settings]
        given = environment.get("GIT_CONFIG_COUNT", "")
        first = int(given) if given.isdecimal() else 0
        for index, (key, value) in enumerate(settings, first):
            environment[f"GIT_CONFIG_KEY_{index}"] = key
            environment[f"GIT_CONFIG_VALUE_{index}"] = value
        environment["GIT_CONFIG_COUNT"] = str(first + len(settings))
        return {**environment, **extra}


def _end(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
