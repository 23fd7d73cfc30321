"""Whom a verdict rests on: certificate, log and timestamp authorities, each with the window in which it may be used.

A root is judged under by itself and named in every verdict; two roots are never merged (supply-chain.md sections 1, 4).
sigstore-python uses every authority and key of a root whatever its window, so it is given a copy of the root that holds
only those whose window contains the verified time. Private instances (GitHub's) have no log: roots without one go to
our own verifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import verification
from sigstore._internal.trust import CTKeyring, KeyringPurpose, RekorKeyring
from sigstore.models import TrustedRoot as SigstoreRoot
from sigstore.verify import Verifier
from sigstore_models.trustroot.v1 import TrustedRoot as SigstoreRootModel

from analytics.errors import SettingsError
from analytics.supply_chain.file_bytes import read_named_file
from analytics.supply_chain.untrusted import MAX_BYTES, UntrustedInputError, decode_base64, json_text, parse_json

PRODUCTION = "sigstore production"
# The folder inside sigstore-python's wheel: the address of the repository that the root is published in.
_PRODUCTION_FOLDER = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
_MEDIA_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
# The newer spelling has the same fields, and the library knows the older one only.
_MEDIA_TYPES = (_MEDIA_TYPE, "application/vnd.dev.sigstore.trustedroot.v0.2+json")
# A client's configuration holds the root of its instance.
_CONFIGURATION_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_LISTS = ("tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities")


class TrustedRootError(SettingsError):
    """A trusted root cannot be read; nothing can be judged under it."""


@dataclass(frozen=True, slots=True)
class Window:
    """When an authority or key may be used, both ends inside; None has no end."""

    start: datetime | None = None
    end: datetime | None = None

    def contains(self, at: datetime) -> bool:
        """Whether `at` (aware) lies inside."""
        return (self.start is None or self.start <= at) and (self.end is None or at <= self.end)


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificates from the issuing (or stamping) one up to the root, and their window."""

    chain: tuple[x509.Certificate, ...]
    window: Window

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether one of its certificates signed `certificate`, whatever the time."""
        return any(_directly_issued(certificate, parent) for parent in self.chain)


class _ParsedOnceRoot(SigstoreRoot):
    """The library's root, which parses its keys anew for every bundle, with each list of keys made once."""

    def __init__(self, inner: SigstoreRootModel) -> None:
        super().__init__(inner)
        self._log_keys = super().rekor_keyring(KeyringPurpose.VERIFY)
        self._certificate_log_keys = super().ct_keyring(KeyringPurpose.VERIFY)

    def rekor_keyring(self, purpose: KeyringPurpose) -> RekorKeyring:
        return self._log_keys if purpose is KeyringPurpose.VERIFY else super().rekor_keyring(purpose)

    def ct_keyring(self, purpose: KeyringPurpose) -> CTKeyring:
        return self._certificate_log_keys if purpose is KeyringPurpose.VERIFY else super().ct_keyring(purpose)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of one of the root's lists, with the window that it states."""

    value: Mapping[str, Any]
    window: Window


@dataclass(frozen=True)
class TrustedRoot:
    """One trusted root: what its file holds, and verifiers that keep to its windows."""

    name: str
    sha256: str
    content: Mapping[str, Any]
    certificate_authorities: tuple[Authority, ...]
    timestamp_authorities: tuple[Authority, ...]
    # The lists of the file whose entries have windows, in the order of _LISTS.
    _entries: tuple[tuple[_Entry, ...], ...] = field(repr=False, compare=False)
    # Names of the certificates that may have issued a signing certificate.
    _issuers: frozenset[bytes] = field(repr=False, compare=False)
    _raw: bytes = field(repr=False, compare=False)
    # Built once per set of usable entries; a root has a handful of them in all its years.
    _verifiers: dict[tuple[int, ...] | None, Verifier] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Callable[[bytes, str], TrustedRoot], tuple[bytes, str]]:
        """Another process reads the file's bytes again: parsed certificates cannot be handed over."""
        return _root, (self._raw, self.name)

    @property
    def has_log(self) -> bool:
        """Whether it names a transparency log; a private instance does not."""
        return bool(self.content.get("tlogs"))

    @cached_property
    def for_tests(self) -> bool:
        """Whether its services have addresses that no network has (RFC 6761 section 6.2): nobody may rely on it."""
        addresses = [
            urlsplit(str(entry.value.get(key))).hostname or ""
            for entries in self._entries
            for entry in entries
            for key in ("uri", "baseUrl")
            if entry.value.get(key)
        ]
        return any(address == "test" or address.endswith(".test") for address in addresses)

    def names_issuer_of(self, certificate: x509.Certificate) -> bool:
        """Whether `certificate` says that one of its authorities issued it: what it says, not what it proves."""
        return certificate.issuer.public_bytes() in self._issuers

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether one of its authorities signed `certificate`, at whatever time."""
        return any(authority.issued(certificate) for authority in self.certificate_authorities)

    def log_key(self, key_id: str) -> Any:
        """The public key of the log with this id (base64); None when the root does not know it."""
        for log in self.content.get("tlogs", ()):
            if log["logId"]["keyId"] == key_id:
                return load_der_public_key(decode_base64(log["publicKey"]["rawBytes"], what="log key"))
        return None

    def knows_log(self, key_id: str) -> bool:
        """Whether it names the log with this id (base64)."""
        return any(log["logId"]["keyId"] == key_id for log in self.content.get("tlogs", ()))

    def verifier(self) -> Verifier:
        """The library's verifier over the whole root, windows unenforced."""
        return self._build(None, self.content)

    def verifier_at(self, times: Sequence[datetime]) -> Verifier:
        """The library's verifier over what may be used at all of `times`.

        Raises the library's error when no log, or no certificate authority, is left.
        """
        usable = [
            [entry.value for entry in entries if all(entry.window.contains(at) for at in times)]
            for entries in self._entries
        ]
        # An entry is known by its object: the lists are this root's own and never change.
        key = tuple(id(value) for values in usable for value in values)
        known = self._verifiers.get(key)
        return known or self._build(key, {**self.content, **dict(zip(_LISTS, usable, strict=True))})

    def _build(self, key: tuple[int, ...] | None, content: Mapping[str, Any]) -> Verifier:
        if key not in self._verifiers:
            model = SigstoreRootModel.from_json(json_text(content))
            self._verifiers[key] = Verifier(trusted_root=_ParsedOnceRoot(model))
        return self._verifiers[key]


def read_trusted_roots(raw: bytes, name: str, where: str | None = None) -> tuple[TrustedRoot, ...]:
    """The roots in a file's bytes: one JSON object, or JSON lines as `gh attestation trusted-root` writes them.

    `name` is how verdicts name them. Raises TrustedRootError naming the file (`where`) and what is wrong in it.
    """
    try:
        lines = [line for line in raw.splitlines() if line.strip()]
        try:
            return (_root(raw, name),)
        except UntrustedInputError:
            if len(lines) < 2:
                raise
            return tuple(_root(line, f"{name}:{number}") for number, line in enumerate(lines, start=1))
    except UntrustedInputError as error:
        fix = "Take the root from `gh attestation trusted-root`, or from your Sigstore instance."
        raise TrustedRootError(f"This is no trusted root: {error.what}", where=where or name, fix=fix) from error


def load_trusted_roots(path: Path) -> tuple[TrustedRoot, ...]:
    """The roots in the file at `path`, named by the file's name; raises TrustedRootError when it is missing or none.

    A verdict is kept and printed in packs: the folders of the machine that made it are nobody's business.
    """
    try:
        raw = read_named_file(path, MAX_BYTES)
    except OSError as error:
        what = f"The trusted root cannot be read: {error.strerror}."
        raise TrustedRootError(what, where=str(path), fix="Name a file that exists.") from error
    return read_trusted_roots(raw, path.name, str(path))


@cache
def production_root() -> TrustedRoot:
    """Sigstore's public instance, from the copy inside sigstore-python's wheel.

    Read from the wheel itself: the library's own loader would prefer whatever lies in the user's cache folder, and
    offline it takes that unverified.
    """
    path = files("sigstore").joinpath("_store", _PRODUCTION_FOLDER, "trusted_root.json")
    return read_trusted_roots(path.read_bytes(), PRODUCTION)[0]


def refuse_mixed_roots(roots: Sequence[TrustedRoot]) -> None:
    """Raise TrustedRootError where a root made for tests stands beside a real one (supply-chain.md section 4)."""
    made_up = [root.name for root in roots if root.for_tests]
    if made_up and len(made_up) < len(roots):
        what = f"“{made_up[0]}” is a trusted root made for tests and is given beside a real one."
        raise TrustedRootError(what, where=made_up[0], fix="Judge under test roots alone, or leave them out.")


def verify_chain(certificate: x509.Certificate, authorities: Iterable[Authority], at: datetime) -> bool:
    """Whether `certificate` chains, at `at`, to the root of an authority whose window contains that time."""
    # The library's defaults for web servers, except that Fulcio's certificates are for signing code: the purpose is
    # checked by the caller.
    ca_policy = verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, verification.Criticality.NON_CRITICAL, None
    )
    leaf_policy = verification.ExtensionPolicy.webpki_defaults_ee().may_be_present(
        x509.ExtendedKeyUsage, verification.Criticality.NON_CRITICAL, None
    )
    for authority in authorities:
        if not authority.window.contains(at):
            continue
        # One authority at a time, and its root alone is an anchor: intermediates do not outlive their window.
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store([authority.chain[-1]]))
            .time(at)
            .extension_policies(ca_policy=ca_policy, ee_policy=leaf_policy)
            .build_client_verifier()
        )
        try:
            verifier.verify(certificate, list(authority.chain[:-1]))
        except (verification.VerificationError, x509.UnsupportedGeneralNameType, ValueError):
            continue
        return True
    return False


def _root(raw: bytes, name: str) -> TrustedRoot:
    content = parse_json(raw, what="trusted root")
    if isinstance(content, dict) and content.get("mediaType") == _CONFIGURATION_TYPE:
        content = content.get("trustedRoot")
    if not isinstance(content, dict) or content.get("mediaType") not in _MEDIA_TYPES:
        raise UntrustedInputError(f"its mediaType is not {_MEDIA_TYPE}.")
    content = {**content, "mediaType": _MEDIA_TYPE}
    try:
        authorities = tuple(_authority(entry) for entry in content.get("certificateAuthorities", []))
        stamping = tuple(_authority(entry) for entry in content.get("timestampAuthorities", []))
        entries = tuple(tuple(_entry(value) for value in content.get(name, [])) for name in _LISTS)
        for log in (*content.get("tlogs", []), *content.get("ctlogs", [])):
            decode_base64(log["publicKey"]["rawBytes"], what="log key")
            decode_base64(log["logId"]["keyId"], what="log id")
    except (KeyError, TypeError, AttributeError) as error:
        raise UntrustedInputError(f"a field is missing or of another type ({error!r}).") from error
    if not authorities:
        raise UntrustedInputError("it names no certificate authority.")
    if content.get("ctlogs") and not content.get("tlogs"):
        # Bundles without a log entry go to our own verifier, which knows no promise of a certificate log.
        raise UntrustedInputError("it names a certificate log and no log of signatures, which is not understood.")
    issuers = frozenset(item.subject.public_bytes() for authority in authorities for item in authority.chain)
    return TrustedRoot(name, hashlib.sha256(raw).hexdigest(), content, authorities, stamping, entries, issuers, raw)


def _authority(entry: Mapping[str, Any]) -> Authority:
    ders = [decode_base64(item["rawBytes"], what="certificate") for item in entry["certChain"]["certificates"]]
    try:
        chain = tuple(x509.load_der_x509_certificate(der) for der in ders)
    except ValueError as error:
        raise UntrustedInputError(f"a certificate cannot be read: {error}.") from error
    if not chain:
        raise UntrustedInputError("an authority has no certificate.")
    return Authority(chain, _window(entry.get("validFor")))


def _window(value: Any) -> Window:
    if value is None:
        return Window()
    return Window(_time(value.get("start")), _time(value.get("end")))


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UntrustedInputError(f"“{text}” is not a time.") from None
    if at.tzinfo is None:
        raise UntrustedInputError(f"“{text}” has no offset: the zone is unknown.")
    return at


def _entry(value: Mapping[str, Any]) -> _Entry:
    # Authorities carry their window themselves, logs on their key.
    return _Entry(value, _window(value["publicKey"].get("validFor") if "publicKey" in value else value.get("validFor")))


def _directly_issued(certificate: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
