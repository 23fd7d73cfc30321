"""What was signed: in-toto statements with their subjects, and what a provenance predicate claims about its build.

Claims are what the builder wrote, never facts: source, commit, ref, run and builder come from the certificate
(supply-chain.md section 1). They are read here only so that they can be held against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from analytics.errors import UsageError
from analytics.supply_chain.untrusted import UntrustedInputError, parse_json, printable

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPES = frozenset({"https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"})
PROVENANCE = "https://slsa.dev/provenance/"
# GitHub attests at most 1,024 subjects at once.
MAX_SUBJECTS = 10_000
# Git dependencies of one build that are held against the certificate.
_USUAL_ADDRESS = 500
_SSH_USER = re.compile(r"\A[A-Za-z0-9_.-]{1,64}@")
_COPIED = re.compile(r"[A-Za-z0-9_.-]{1,64}@(?P<host>[A-Za-z0-9.-]{1,253}):(?!/)")
_MAX_DEPENDENCIES = 1_000

_HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Digest:
    """An artifact's digest in an algorithm that subjects are matched by."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


@dataclass(frozen=True, slots=True)
class Subject:
    """One artifact that a statement speaks of."""

    name: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the predicate says about its build, and where in it."""

    name: str
    value: str
    place: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A signed statement: what it is about and what it claims."""

    statement_type: str
    predicate_type: str
    subjects: tuple[Subject, ...]
    claims: tuple[Claim, ...]


def parse_digest(text: str) -> Digest:
    """`sha256:…` or `sha512:…` as typed by a person; raises UsageError for anything else."""
    algorithm, _, value = text.strip().partition(":")
    algorithm, value = algorithm.lower(), value.lower()
    if _HEX_LENGTHS.get(algorithm) != len(value) or not _HEX.fullmatch(value):
        what = f"“{printable(text)}” is no digest."
        raise UsageError(what, fix="Write it as sha256: and 64 hex digits, or sha512: and 128.")
    return Digest(algorithm, value)


def matching_subject(subjects: tuple[Subject, ...], digest: Digest) -> Subject | None:
    """The first subject with this digest; the name is not looked at, since files are renamed."""
    for subject in subjects:
        if subject.digests.get(digest.algorithm, "").lower() == digest.value:
            return subject
    return None


def read_statement(payload_type: str, payload: bytes) -> Statement:
    """The statement in a verified payload; raises UntrustedInputError when it is none of in-toto's, v0.1 or v1."""
    if payload_type != PAYLOAD_TYPE:
        raise UntrustedInputError(
            f"The signed payload is of type “{printable(payload_type)}”, not an in-toto statement."
        )
    value = parse_json(payload, what="signed statement")
    if not isinstance(value, dict):
        raise UntrustedInputError("The signed statement is no JSON object.")
    statement_type, predicate_type = value.get("_type"), value.get("predicateType")
    if statement_type not in STATEMENT_TYPES:
        raise UntrustedInputError(f"The signed statement is of type “{printable(statement_type)}”, which is not known.")
    if not isinstance(predicate_type, str) or not predicate_type:
        raise UntrustedInputError("The signed statement names no predicate type.")
    predicate = value.get("predicate")
    claims: tuple[Claim, ...] = ()
    if predicate_type.startswith(PROVENANCE) and isinstance(predicate, dict):
        claims = tuple(_claims(predicate))
    return Statement(statement_type, predicate_type, _subjects(value.get("subject")), claims)


def _subjects(value: Any) -> tuple[Subject, ...]:
    if not isinstance(value, list) or not value:
        raise UntrustedInputError("The signed statement has no subject.")
    if len(value) > MAX_SUBJECTS:
        raise UntrustedInputError(f"The signed statement has {len(value)} subjects, more than {MAX_SUBJECTS}.")
    return tuple(_subject(entry, number) for number, entry in enumerate(value))


def _subject(entry: Any, number: int) -> Subject:
    digests = entry.get("digest") if isinstance(entry, dict) else None
    name = entry.get("name", "") if isinstance(entry, dict) else None
    if not isinstance(digests, dict) or not digests or not all(isinstance(text, str) for text in digests.values()):
        raise UntrustedInputError(f"Subject {number} of the signed statement has no digest.")
    if not isinstance(name, str):
        raise UntrustedInputError(f"Subject {number} of the signed statement has a name that is no text.")
    return Subject(name, digests)


# Claim names. Each stands for one or two certificate extensions (claims.py).
REPOSITORY, REPOSITORY_ID, OWNER_ID = "source repository", "source repository id", "source owner id"
COMMIT, REF, RUN, TRIGGER, BUILDER, RUNNER = "source commit", "source ref", "run", "trigger", "builder", "runner"

# What builders copy from GitHub's environment, in either spelling.
_ENVIRONMENT = {
    "github_repository": REPOSITORY,
    "github_repository_id": REPOSITORY_ID,
    "github_repository_owner_id": OWNER_ID,
    "github_sha": COMMIT,
    "github_sha1": COMMIT,
    "github_ref": REF,
    "github_event_name": TRIGGER,
}


_FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (BUILDER, ("builder", "id")),
    (BUILDER, ("runDetails", "builder", "id")),
    (RUN, ("metadata", "buildInvocationID")),
    (RUN, ("metadata", "buildInvocationId")),
    (RUN, ("runDetails", "metadata", "invocationId")),
    (REPOSITORY_ID, ("buildDefinition", "internalParameters", "github", "repository_id")),
    (OWNER_ID, ("buildDefinition", "internalParameters", "github", "repository_owner_id")),
    (TRIGGER, ("buildDefinition", "internalParameters", "github", "event_name")),
    (RUNNER, ("buildDefinition", "internalParameters", "github", "runner_environment")),
)


def _claims(predicate: Mapping[str, Any]) -> Iterator[Claim]:
    """Claims of SLSA provenance v0.2 and v1 in the shapes that GitHub, GitLab, npm and the SLSA generators write."""
    for name, place in _FIELDS:
        # Most forms lack the first key already, and there are many statements.
        if place[0] in predicate:
            yield from _claim(name, predicate, *place)
    for place in (
        ("invocation", "environment"),
        ("buildDefinition", "internalParameters"),
        ("buildDefinition", "systemParameters"),
    ):
        yield from _environment_claims(predicate, place)
    yield from _source_claims(predicate)


def _source_claims(predicate: Mapping[str, Any]) -> Iterator[Claim]:
    """The source as it was configured, and the dependencies that stand for its checkout."""
    named: list[Claim] = []
    workflow = ("buildDefinition", "externalParameters", "workflow")
    named += _claim(REPOSITORY, predicate, *workflow, "repository")
    yield from _claim(REF, predicate, *workflow, "ref")
    places: tuple[tuple[str, ...], ...] = (
        ("invocation", "configSource"),
        ("buildDefinition", "externalParameters", "source"),
        ("buildDefinition", "externalParameters", "source", "artifact"),
    )
    for place in places:
        named += _claim(REPOSITORY, predicate, *place)
        named += _dependency_claims(_at(predicate, place), ".".join(place))
    yield from named
    repositories = {repository_key(claim.value) for claim in named if claim.name == REPOSITORY}
    dependencies: tuple[tuple[str, ...], ...] = (("materials",), ("buildDefinition", "resolvedDependencies"))
    for place in dependencies:
        entries = _at(predicate, place)
        for number, entry in enumerate(entries[:_MAX_DEPENDENCIES] if isinstance(entries, list) else ()):
            found = list(_dependency_claims(entry, f"{'.'.join(place)}[{number}]"))
            # Other repositories are dependencies of the build; with no source named, the first one is the source.
            repository = repository_key(found[0].value) if found else None
            if repository in repositories or (number == 0 and not repositories):
                yield from found


def _dependency_claims(entry: Any, place: str) -> Iterator[Claim]:
    """`git+https://host/owner/name@ref` with its commit, as a repository, a ref and a commit."""
    uri = entry.get("uri") if isinstance(entry, dict) else None
    if not isinstance(uri, str) or repository_key(uri) is None:
        return
    yield Claim(REPOSITORY, uri, f"{place}.uri")
    ref = _ref(uri)
    if ref:
        yield Claim(REF, ref, f"{place}.uri")
    for algorithm in ("gitCommit", "sha1"):
        yield from _claim(COMMIT, entry, "digest", algorithm, within=place)


def _environment_claims(predicate: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[Claim]:
    variables = _at(predicate, place)
    if not isinstance(variables, dict):
        return
    run = attempt = None
    for name, value in variables.items():
        # The draft of v1 wraps each value.
        text = value.get("value") if isinstance(value, dict) else value
        if not isinstance(text, str) or not text:
            continue
        lower = name.lower()
        if lower in _ENVIRONMENT:
            yield Claim(_ENVIRONMENT[lower], text, ".".join((*place, name)))
        elif lower == "github_run_id":
            run = text
        elif lower == "github_run_attempt":
            attempt = text
    if run:
        yield Claim(RUN, f"{run}-{attempt}" if attempt else run, ".".join((*place, "GITHUB_RUN_ID")))


def _claim(name: str, value: Any, *place: str, within: str = "") -> list[Claim]:
    found = _at(value, place)
    if not isinstance(found, str) or not found:
        return []
    return [Claim(name, found, ".".join((within, *place) if within else place))]


def _at(value: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def repository_key(uri: str) -> str | None:
    """`host/owner/name`, case-folded, of a repository's address; None when it is no address of one.

    GitHub's and GitLab's names are not case-sensitive. `owner/name` alone has no host.
    """
    # Kept for addresses of usual length only: a predicate may hold any text.
    return _known_key(uri) if len(uri) <= _USUAL_ADDRESS else _key(uri)


def _key(uri: str) -> str | None:
    text = uri.removeprefix("git+")
    scheme, separator, rest = text.partition("://")
    if separator and scheme not in ("https", "http", "git", "ssh"):
        return None
    if scheme == "ssh" and separator:
        # Every clone over SSH is somebody's, mostly git's.
        rest = _SSH_USER.sub("", rest, count=1)
    if not separator:
        found = _COPIED.match(text)
        if found is not None:
            # git@host:owner/name, as a clone's address is copied.
            separator, rest = ":", f"{found['host']}/{text[found.end() :]}"
        elif ":" in text.partition("/")[0]:
            # A package URL, or some other name that is no address.
            return None
    # What follows is a ref; owner and name hold neither sign. User information is kept with the host: `a@b` is no `b`.
    host, slash, path = (rest if separator else text).partition("/")
    for sign in "@#?":
        path = path.partition(sign)[0]
    path = path.rstrip("/").removesuffix(".git")
    if not slash or not path or (separator and "/" not in path):
        return None
    return f"{host}/{path}".casefold()


_known_key = lru_cache(maxsize=4_096)(_key)


def _ref(uri: str) -> str | None:
    path = uri.removeprefix("git+").partition("://")[2].partition("/")[2]
    _, sign, ref = path.partition("@") if "@" in path else path.partition("#")
    return ref if sign else None
