"""Known vulnerabilities of components, from a folder of OSV records that the user has: nothing is shipped or fetched.

Source: supply-chain.md section 2; the OSV schema 1.7 for records, ranges and events. Versions are compared by
`univers`, as each ecosystem orders them; one that cannot be ordered matches only where it is listed by name.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from univers.version_range import RANGE_CLASS_BY_SCHEMES
from univers.versions import Version

from analytics.errors import SettingsError
from analytics.supply_chain.rules import Severity
from analytics.supply_chain.sboms.facts import Purl
from analytics.supply_chain.sboms.reading import shortened

MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
MAX_RECORDS: Final = 1_000_000
_MOST_AFFECTED: Final = 1_000
_MOST_EVENTS: Final = 1_000
_MOST_VERSIONS: Final = 50_000

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
    "debian": "deb",
    "ubuntu": "deb",
    "alpine": "apk",
    "red hat": "rpm",
    "rocky linux": "rpm",
    "almalinux": "rpm",
    "github actions": "githubactions",
}
_WORDS: Final[Mapping[str, Severity]] = {
    "CRITICAL": "critical",
    "HIGH": "high",
    "MODERATE": "medium",
    "MEDIUM": "medium",
    "LOW": "low",
}


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
class _Affected:
    record: str
    versions: frozenset[str]
    # Pairs of an introduced version and where it ends: None for no end; whether the end is inside.
    spans: tuple[tuple[str, str | None, bool], ...]


@dataclass
class VulnerabilityIndex:
    """The records of a folder by package; `unread` says which files hold none, and why."""

    records: dict[str, Vulnerability] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    _by_package: dict[tuple[str, str], list[_Affected]] = field(default_factory=lambda: defaultdict(list))

    def of(self, purl: Purl | None) -> list[Vulnerability]:
        """The vulnerabilities of a component's version, gravest id order left to the caller."""
        if purl is None or purl.version is None:
            return []
        name = f"{purl.namespace}/{purl.name}" if purl.namespace else purl.name
        found: dict[str, Vulnerability] = {}
        for affected in self._by_package.get((purl.type, _folded(purl.type, name)), ()):
            if _is_affected(purl.type, purl.version, affected):
                found[affected.record] = self.records[affected.record]
        return list(found.values())

    def add(self, raw: Mapping[str, Any], exploited: frozenset[str], probabilities: Mapping[str, float]) -> None:
        """Add a decoded record; raises ValueError for one without an id."""
        name = raw.get("id")
        if not isinstance(name, str) or not name or len(name) > 200:
            raise ValueError("it has no id")
        if raw.get("withdrawn"):
            return
        aliases = tuple(one[:200] for one in _list(raw.get("aliases"))[:100] if isinstance(one, str))
        cves = [one for one in (name, *aliases) if one.startswith("CVE-")]
        affected = [
            _affected(one, name) for one in _list(raw.get("affected"))[:_MOST_AFFECTED] if isinstance(one, dict)
        ]
        fixed = sorted({end for _, one in affected for _, end, inside in one.spans if end and not inside})
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
            if package is not None:
                self._by_package[package].append(one)


def load_vulnerabilities(folder: Path | None, kev: Path | None = None, epss: Path | None = None) -> VulnerabilityIndex:
    """The records in a folder and those below it (`*.json`); without a folder there are none.

    `kev` is CISA's catalogue as JSON, `epss` FIRST's scores as CSV. Raises SettingsError for a folder or list that is
    not there; a record that cannot be read is named in `unread`.
    """
    index = VulnerabilityIndex()
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
    with path.open("rb") as file:
        raw = file.read(MAX_RECORD_BYTES + 1)
    if len(raw) > MAX_RECORD_BYTES:
        raise ValueError(f"it is longer than {MAX_RECORD_BYTES:,} bytes")
    value = msgspec.json.decode(raw)
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return value


def _affected(raw: Mapping[str, Any], record: str) -> tuple[tuple[str, str] | None, _Affected]:
    package = raw.get("package")
    ecosystem = str(package.get("ecosystem", "")).split(":", 1)[0].casefold() if isinstance(package, dict) else ""
    name = package.get("name") if isinstance(package, dict) else None
    kind = _ECOSYSTEMS.get(ecosystem)
    # Maven writes group:artifact, a package URL group/artifact.
    key = (
        (kind, _folded(kind, name.replace(":", "/") if kind == "maven" else name))
        if kind and isinstance(name, str)
        else None
    )
    spans: list[tuple[str, str | None, bool]] = []
    for one in _list(raw.get("ranges")):
        if isinstance(one, dict) and one.get("type") != "GIT":
            spans += _spans(_list(one.get("events"))[:_MOST_EVENTS])
    versions = frozenset(one for one in _list(raw.get("versions"))[:_MOST_VERSIONS] if isinstance(one, str))
    return key, _Affected(record, versions, tuple(spans))


def _spans(events: Sequence[Any]) -> Iterator[tuple[str, str | None, bool]]:
    introduced: str | None = None
    for event in events:
        if not isinstance(event, dict):
            continue
        if isinstance(event.get("introduced"), str):
            if introduced is not None:
                yield introduced, None, False
            introduced = event["introduced"]
        for name, inside in (("fixed", False), ("last_affected", True)):
            if isinstance(event.get(name), str) and introduced is not None:
                yield introduced, event[name], inside
                introduced = None
    if introduced is not None:
        yield introduced, None, False


def _is_affected(kind: str, version: str, affected: _Affected) -> bool:
    if version in affected.versions:
        return True
    at = _version(kind, version)
    if at is None:
        return False
    for introduced, end, inside in affected.spans:
        start = None if introduced == "0" else _version(kind, introduced)
        if introduced != "0" and (start is None or at < start):
            continue
        if end is None:
            return True
        stop = _version(kind, end)
        if stop is not None and (at < stop or (inside and at == stop)):
            return True
    return False


@lru_cache(maxsize=65_536)
def _version(kind: str, text: str) -> Version | None:
    ordering = RANGE_CLASS_BY_SCHEMES.get(kind)
    if ordering is None or ordering.version_class is None or len(text) > 200:
        return None
    try:
        version: Version = ordering.version_class(text.removeprefix("v") if kind == "golang" else text)
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
        return float(vector)
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
    return name.replace("_", "-").casefold() if kind == "pypi" else name.casefold()


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
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(line for line in file if not line.startswith("#"))
            return {row["cve"]: float(row["epss"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"is no list of EPSS scores: {error}", where=str(path), fix="Correct `epss`.") from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
