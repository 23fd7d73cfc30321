"""Known vulnerabilities of components, from a folder of OSV records that the user has: nothing is shipped or fetched.

Source: supply-chain.md section 2; the OSV schema 1.7 for records, ranges and events. Versions are compared by
`univers`, as each ecosystem orders them; one that cannot be ordered matches only where it is listed by name.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec
from univers.version_range import RANGE_CLASS_BY_SCHEMES
from univers.versions import Version

from analytics.errors import SettingsError
from analytics.supply_chain.file_bytes import read_regular_file
from analytics.supply_chain.rules import Severity
from analytics.supply_chain.sboms.facts import Purl
from analytics.supply_chain.sboms.reading import shortened

MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
MAX_RECORDS: Final = 1_000_000
_MOST_AFFECTED: Final = 1_000
_MOST_EVENTS: Final = 1_000
_MOST_VERSIONS: Final = 50_000
_MOST_VERSION_CHARACTERS: Final = 200

# OSV's ecosystems by the type of a package URL; what stands behind a colon (Debian:12) is a release of it.
_ECOSYSTEMS: Final[Mapping[str, str]] = {
    "npm": "npm",
    "pypi": "pypi",
    "maven": "maven",
    "go": "golang",
    "nuget": "nuget",
    "rubygems": "gem",
    "crates.io": "cargo",
    "packagist": "composer",
    "hex": "hex",
    "pub": "pub",
    "conancenter": "conan",
    "debian": "deb",
    "ubuntu": "deb",
    "alpine": "apk",
    "wolfi": "apk",
    "chainguard": "apk",
    "red hat": "rpm",
    "rocky linux": "rpm",
    "almalinux": "rpm",
    "opensuse": "rpm",
    "suse": "rpm",
    "github actions": "githubactions",
}
# Distributions share package types, and a package URL names its distribution as the namespace.
_DISTRIBUTIONS: Final[Mapping[str, frozenset[str]]] = {
    "debian": frozenset({"debian"}),
    "ubuntu": frozenset({"ubuntu"}),
    "alpine": frozenset({"alpine"}),
    "wolfi": frozenset({"wolfi"}),
    "chainguard": frozenset({"chainguard"}),
    "red hat": frozenset({"redhat", "rhel"}),
    "rocky linux": frozenset({"rocky", "rockylinux", "rocky-linux"}),
    "almalinux": frozenset({"alma", "almalinux"}),
    "opensuse": frozenset({"opensuse"}),
    "suse": frozenset({"suse", "sles"}),
}
_DISTRIBUTED: Final = frozenset({"deb", "apk", "rpm"})
_NUMBERS: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})*")
_PYPI_SEPARATORS: Final = re.compile(r"[-_.]+")
# Other types that mean the same; Syft wrote `pkg:alpine/…` before `apk` was one.
_KINDS: Final[Mapping[str, str]] = {"github": "githubactions", "alpine": "apk"}
# Where univers names its ordering otherwise than the package URL its type.
_ORDERINGS: Final[Mapping[str, str]] = {"githubactions": "github", "pub": "generic"}
_WORDS: Final[Mapping[str, Severity]] = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
}
_GRAVITY: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low", "info")


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One record as far as it is used; `aliases` hold its CVE, `fixed` the first versions that are not affected."""

    id: str
    aliases: tuple[str, ...]
    summary: str
    severity: Severity | None
    fixed: tuple[str, ...]
    is_exploited: bool
    # EPSS: how likely it is exploited within thirty days.
    exploit_probability: float | None

    @property
    def cve(self) -> str | None:
        """The CVE id, where it has one."""
        return next((name for name in (self.id, *self.aliases) if name.startswith("CVE-")), None)


@dataclass(frozen=True, slots=True)
class _Range:
    """Events as (name, version) in no order, and the versions before which the range ends (OSV's `limit`)."""

    events: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Affected:
    record: str
    # The release of a distribution, as its number.
    release: str | None
    versions: frozenset[str]
    ranges: tuple[_Range, ...]


# Type, distribution ("" for none), folded name.
PackageKey = tuple[str, str, str]


@dataclass
class VulnerabilityIndex:
    """The records of a folder by package; `unread` says which files hold none, and why.

    With `wanted` only records of these packages are kept: a whole ecosystem has hundreds of thousands.
    """

    records: dict[str, Vulnerability] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    wanted: frozenset[PackageKey] | None = None
    _by_package: dict[PackageKey, list[_Affected]] = field(default_factory=lambda: defaultdict(list))

    def of(self, purl: Purl | None) -> list[Vulnerability]:
        """The vulnerabilities of a component's version, the gravest first, and each once whatever its aliases."""
        if purl is None:
            return []
        release = _release_number(dict(purl.qualifiers).get("distro"))
        found: dict[str, Vulnerability] = {}
        for key, version in _packages(purl):
            for affected in self._by_package.get(key, ()):
                if _is_of_release(affected.release, release) and _is_affected(key[0], version, affected):
                    found[affected.record] = self.records[affected.record]
        named: set[str] = set()
        kept: list[Vulnerability] = []
        for one in sorted(found.values(), key=_gravity):
            names = {one.id, *one.aliases}
            if not names & named:
                kept.append(one)
            named |= names
        return kept

    def add(self, raw: Mapping[str, Any], exploited: frozenset[str], probabilities: Mapping[str, float]) -> None:
        """Add a decoded record; raises ValueError for one without an id."""
        name = raw.get("id")
        if not isinstance(name, str) or not name or len(name) > 200:
            raise ValueError("it has no id")
        if raw.get("withdrawn"):
            return
        affected = [
            (key, found)
            for one in _list(raw.get("affected"))[:_MOST_AFFECTED]
            if isinstance(one, dict)
            for key, found in _affected(one, name)
            if self.wanted is None or key in self.wanted
        ]
        if not affected:
            return
        # A distribution's record names the CVE that it repeats as `upstream`.
        aliases = tuple(
            dict.fromkeys(
                one[:200]
                for key in ("aliases", "upstream")
                for one in _list(raw.get(key))[:100]
                if isinstance(one, str)
            )
        )
        cves = [one for one in (name, *aliases) if one.startswith("CVE-")]
        fixed = sorted(
            {end for _, one in affected for part in one.ranges for event, end in part.events if event == "fixed"}
        )
        self.records[name] = Vulnerability(
            id=name,
            aliases=aliases,
            summary=shortened(str(raw.get("summary") or raw.get("details") or ""), 200),
            severity=_severity(raw),
            fixed=tuple(fixed[:20]),
            is_exploited=any(one in exploited for one in cves),
            exploit_probability=max((probabilities[one] for one in cves if one in probabilities), default=None),
        )
        for package, one in affected:
            self._by_package[package].append(one)


def package_keys(purl: Purl) -> frozenset[PackageKey]:
    """The packages under which records about this one stand: itself, and the source package it was built from."""
    return frozenset(key for key, _ in _packages(purl))


def _packages(purl: Purl) -> Iterator[tuple[PackageKey, str]]:
    """The packages that a component is, each with its version; none without a version."""
    kind = _KINDS.get(purl.type, purl.type)
    qualifiers = dict(purl.qualifiers)
    if kind not in _DISTRIBUTED:
        if purl.version:
            name = f"{purl.namespace}/{purl.name}" if purl.namespace else purl.name
            yield (kind, "", _folded(kind, name)), purl.version
        return
    namespace = (purl.namespace or ("alpine" if purl.type == "alpine" else "")).casefold()
    for distribution, spellings in _DISTRIBUTIONS.items():
        if namespace not in spellings:
            continue
        epoch = qualifiers.get("epoch")
        # Distributions report on source packages, of which a binary one says `upstream=name` or `name@version`.
        source, _, source_version = qualifiers.get("upstream", "").partition("@")
        for name, version in ((purl.name, purl.version), (source, source_version or purl.version)):
            if name and version:
                yield (
                    (kind, distribution, _folded(kind, name)),
                    f"{epoch}:{version}" if epoch and ":" not in version else version,
                )


def load_vulnerabilities(
    folder: Path | None,
    kev: Path | None = None,
    epss: Path | None = None,
    wanted: frozenset[PackageKey] | None = None,
) -> VulnerabilityIndex:
    """The records in a folder and those below it (`*.json`), of `wanted` packages; without a folder there are none.

    `kev` is CISA's catalogue as JSON, `epss` FIRST's scores as CSV, gzipped or not. Raises SettingsError for a
    folder or list that is not there; a record that cannot be read is named in `unread`.
    """
    index = VulnerabilityIndex(wanted=wanted)
    if folder is None:
        return index
    if not folder.is_dir():
        raise SettingsError("there is no such folder of OSV records", where=str(folder), fix="Correct `osv`.")
    exploited, probabilities = _exploited(kev), _probabilities(epss)
    for number, path in enumerate(sorted(folder.rglob("*.json"))):
        if number >= MAX_RECORDS:
            index.unread.append(f"{folder}: more than {MAX_RECORDS:,} records; the rest was not read")
            break
        try:
            index.add(_decoded(path), exploited, probabilities)
        except (OSError, ValueError, RecursionError) as error:
            index.unread.append(f"{path}: {shortened(str(error), 200)}")
    return index


def _decoded(path: Path) -> Mapping[str, Any]:
    value = msgspec.json.decode(read_regular_file(path, MAX_RECORD_BYTES))
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return value


def _affected(raw: Mapping[str, Any], record: str) -> Iterator[tuple[PackageKey, _Affected]]:
    package = raw.get("package")
    if not isinstance(package, dict):
        return
    ecosystem, _, release = str(package.get("ecosystem", "")).partition(":")
    ecosystem = ecosystem.strip().casefold()
    kind, name = _ECOSYSTEMS.get(ecosystem), package.get("name")
    if kind is None or not isinstance(name, str):
        return
    # Maven writes group:artifact, a package URL group/artifact.
    key = (
        kind,
        ecosystem if kind in _DISTRIBUTED else "",
        _folded(kind, name.replace(":", "/") if kind == "maven" else name),
    )
    ranges = tuple(
        _range(_list(one.get("events"))[:_MOST_EVENTS])
        for one in _list(raw.get("ranges"))
        if isinstance(one, dict) and one.get("type") != "GIT"
    )
    versions = frozenset(one for one in _list(raw.get("versions"))[:_MOST_VERSIONS] if isinstance(one, str))
    yield key, _Affected(record, _release_number(release), versions, ranges)


def _range(events: Sequence[Any]) -> _Range:
    pairs = [
        (name, event[name])
        for event in events
        if isinstance(event, dict)
        for name in ("introduced", "fixed", "last_affected", "limit")
        if isinstance(event.get(name), str)
    ]
    return _Range(
        tuple(pair for pair in pairs if pair[0] != "limit"), tuple(text for name, text in pairs if name == "limit")
    )


def _release_number(text: str | None) -> str | None:
    """The number in a release as a record or a package URL writes it: `12`, `v3.18`, `22.04:LTS`, `debian-12.5`."""
    found = _NUMBERS.search(text) if text else None
    return found[0] if found else None


def _is_of_release(affected: str | None, release: str | None) -> bool:
    """Whether a record for release 3.18 is about 3.18.4; where either is unknown it may be."""
    if affected is None or release is None:
        return True
    parts = affected.split(".")
    return release.split(".")[: len(parts)] == parts


def _is_affected(kind: str, version: str, affected: _Affected) -> bool:
    """OSV's evaluation: listed by name, or inside a range."""
    if version in affected.versions or _bare(version) in affected.versions:
        return True
    at = _version(kind, version)
    return at is not None and any(_is_inside(kind, at, one) for one in affected.ranges)


def _is_inside(kind: str, at: Version, within: _Range) -> bool:
    """Whether the last event up to a version, in the order of versions, leaves it affected."""
    try:
        limits = [_ordered(kind, text) for text in within.limits if text != "*"]
        if limits and not any(at < limit for limit in limits):
            return False
        events = [(None if text == "0" else _ordered(kind, text), name) for name, text in within.events]
        first = [name for version, name in events if version is None]
        later = sorted(((version, name) for version, name in events if version is not None), key=itemgetter(0))
        affected = "introduced" in first
        for version, name in later:
            if name == "introduced" and at >= version:
                affected = True
            elif (name == "fixed" and at >= version) or (name == "last_affected" and at > version):
                affected = False
    # The classes of univers compare what they cannot order with errors of many kinds.
    except Exception:
        return False
    return affected


def _ordered(kind: str, text: str) -> Version:
    version = _version(kind, text)
    if version is None:
        raise ValueError(text)
    return version


def _bare(version: str) -> str:
    """The version without a `v` in front, as Go, Composer and GitHub's tags write it."""
    return version[1:] if version[:1] in ("v", "V") and version[1:2].isdigit() else version


def _version(kind: str, text: str) -> Version | None:
    return _known_version(kind, text) if len(text) <= _MOST_VERSION_CHARACTERS else None


@lru_cache(maxsize=65_536)
def _known_version(kind: str, text: str) -> Version | None:
    ordering = RANGE_CLASS_BY_SCHEMES.get(_ORDERINGS.get(kind, kind))
    if ordering is None or ordering.version_class is None:
        return None
    try:
        version: Version = ordering.version_class(_bare(text))
    # Each ecosystem's class has errors of its own; a version that has no order is not placed in a range.
    except Exception:
        return None
    return version


def _severity(raw: Mapping[str, Any]) -> Severity | None:
    """The word that a database gives, else that of the CVSS score, else none."""
    for holder in (raw, *(one for one in _list(raw.get("affected")) if isinstance(one, dict))):
        for name in ("database_specific", "ecosystem_specific"):
            inner = holder.get(name)
            word = inner.get("severity") if isinstance(inner, dict) else None
            if isinstance(word, str) and word.upper() in _WORDS:
                return _WORDS[word.upper()]
    scores = [_score(one.get("score")) for one in _list(raw.get("severity")) if isinstance(one, dict)]
    score = max((one for one in scores if one is not None), default=None)
    if score is None:
        return None
    # FIRST's qualitative scale.
    return "critical" if score >= 9 else "high" if score >= 7 else "medium" if score >= 4 else "low"


def _score(vector: Any) -> float | None:
    """The base score of a CVSS vector, or a plain number."""
    if not isinstance(vector, str) or len(vector) > 500:
        return None
    try:
        number = float(vector)
        return number if 0 <= number <= 10 else None
    except ValueError:
        pass
    try:
        from cvss import CVSS2, CVSS3, CVSS4

        kind = CVSS4 if vector.startswith("CVSS:4") else CVSS3 if vector.startswith("CVSS:3") else CVSS2
        return float(kind(vector).scores()[0])
    # Anything can stand in the field; the library's errors share no class with ours.
    except Exception:
        return None


def _folded(kind: str, name: str) -> str:
    return _PYPI_SEPARATORS.sub("-", name).casefold() if kind == "pypi" else name.casefold()


def _gravity(one: Vulnerability) -> tuple[int, str]:
    return (_GRAVITY.index(one.severity) if one.severity else len(_GRAVITY)), one.id


def _exploited(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        found = msgspec.json.decode(path.read_bytes())["vulnerabilities"]
        return frozenset(str(one["cveID"]) for one in found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"is no KEV catalogue: {error}", where=str(path), fix="Correct `kev`.") from None


def _probabilities(path: Path | None) -> Mapping[str, float]:
    if path is None:
        return {}
    try:
        # FIRST publishes it gzipped.
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.DictReader(line for line in file if not line.startswith("#"))
            return {row["cve"]: float(row["epss"]) for row in rows}
    except (OSError, EOFError, ValueError, KeyError, TypeError, csv.Error, zlib.error) as error:
        raise SettingsError(f"is no list of EPSS scores: {error}", where=str(path), fix="Correct `epss`.") from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
