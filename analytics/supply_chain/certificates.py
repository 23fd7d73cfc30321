"""What a signing certificate says about the run that signed: the facts every policy reads.

The extensions are Fulcio's, 1.3.6.1.4.1.57264.1.N (supply-chain.md section 1). Those up to .6 hold bare text, those
from .8 on a DER UTF8String; .8 is the issuer that counts, .1 only its deprecated copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtensionOID

from analytics.supply_chain.untrusted import UntrustedInputError

_FULCIO = "1.3.6.1.4.1.57264.1."
_OTHER_NAME = x509.ObjectIdentifier(_FULCIO + "7")

# Extension number to the fact's name: bare text, then DER.
BARE_EXTENSIONS = {
    1: "issuer_v1",
    2: "trigger_v1",
    3: "source_commit_v1",
    4: "workflow_name",
    5: "source_repository_v1",
    6: "source_ref_v1",
}
ENCODED_EXTENSIONS = {
    8: "issuer",
    9: "build_signer",
    10: "build_signer_commit",
    11: "runner_environment",
    12: "source_repository",
    13: "source_commit",
    14: "source_ref",
    15: "source_repository_id",
    16: "source_owner",
    17: "source_owner_id",
    18: "build_config",
    19: "build_config_commit",
    20: "build_trigger",
    21: "run_invocation",
    22: "visibility",
    23: "deployment_environment",
    24: "token_subject",
}
_BARE = {x509.ObjectIdentifier(f"{_FULCIO}{number}"): name for number, name in BARE_EXTENSIONS.items()}
_ENCODED = {x509.ObjectIdentifier(f"{_FULCIO}{number}"): name for number, name in ENCODED_EXTENSIONS.items()}


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A signing certificate in columns. They are facts only where the judgement says that they are proven."""

    # Who signed the certificate, as RFC 4514 text.
    certificate_authority: str
    not_before: datetime
    not_after: datetime
    # URIs, e-mail addresses and Fulcio's user names, in the certificate's order.
    identities: tuple[str, ...]
    issuer: str | None = None
    build_signer: str | None = None
    build_signer_commit: str | None = None
    runner_environment: str | None = None
    source_repository: str | None = None
    source_commit: str | None = None
    source_ref: str | None = None
    source_repository_id: str | None = None
    source_owner: str | None = None
    source_owner_id: str | None = None
    build_config: str | None = None
    build_config_commit: str | None = None
    build_trigger: str | None = None
    run_invocation: str | None = None
    visibility: str | None = None
    deployment_environment: str | None = None
    token_subject: str | None = None
    # Deprecated copies, for certificates from before 2023.
    issuer_v1: str | None = None
    trigger_v1: str | None = None
    source_commit_v1: str | None = None
    workflow_name: str | None = None
    source_repository_v1: str | None = None
    source_ref_v1: str | None = None


def certificate_facts(certificate: x509.Certificate) -> CertificateFacts:
    """The facts in `certificate`; raises UntrustedInputError for an extension that is not in its encoding."""
    try:
        texts: dict[str, str] = {}
        identities: tuple[str, ...] = ()
        for extension in certificate.extensions:
            oid, value = extension.oid, extension.value
            # By its OID first: 20 of these are looked at for each of many thousand certificates.
            if oid in _ENCODED and isinstance(value, x509.UnrecognizedExtension):
                texts[_ENCODED[oid]] = _utf8_string(value.value)
            elif oid in _BARE and isinstance(value, x509.UnrecognizedExtension):
                texts[_BARE[oid]] = value.value.decode("utf-8")
            elif oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME and isinstance(value, x509.SubjectAlternativeName):
                identities = tuple(_identity(name) for name in value)
        return CertificateFacts(
            certificate_authority=_named(certificate.issuer),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            identities=identities,
            **texts,
        )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UntrustedInputError(f"The certificate's extensions cannot be read: {error}.") from error


@lru_cache(maxsize=256)
def _named(issuer: x509.Name) -> str:
    """A name as text; a handful of authorities issue all certificates."""
    return issuer.rfc4514_string()


def load_certificate(der: bytes) -> x509.Certificate:
    """The certificate in `der`; raises UntrustedInputError for anything else."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise UntrustedInputError(f"The certificate cannot be read: {error}.") from error


def _utf8_string(der: bytes) -> str:
    # Nearly all are short strings, whose two bytes of header are read here in a third of the time.
    if len(der) >= 2 and der[0] == 0x0C and der[1] < 0x80 and der[1] == len(der) - 2:
        return der[2:].decode("utf-8")
    return asn1.decode_der(str, der)


def _identity(name: x509.GeneralName) -> str:
    if isinstance(name, x509.OtherName):
        # Fulcio's user names; another kind is kept so that it is not mistaken for the lack of one.
        return asn1.decode_der(str, name.value) if name.type_id == _OTHER_NAME else f"{name.type_id.dotted_string}"
    return str(name.value)
