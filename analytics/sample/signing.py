"""A trust root made from a seed that signs real Sigstore bundles, at any time in the past.

The bundles (v0.3) verify with sigstore's own verifiers against `TrustRoot.trusted_root_json()`, and nowhere else.
Those without a witness are like the ones of GitHub's instance for private repositories: a certificate and a signed
timestamp, no log. Source: supply-chain.md sections 1 and 4.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from analytics.sample.authorities import (
    VALID_FROM,
    CertificateAuthority,
    CertificateLog,
    Seed,
    SignatureLog,
    TimestampAuthority,
    key_id,
    public_der,
    sign_bytes,
)

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUSTED_ROOT_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
GITHUB_BUILD_TYPE = "https://actions.github.io/buildtypes/workflow/v1"
GITHUB_ISSUER = "https://token.actions.githubusercontent.com"

_FULCIO = "1.3.6.1.4.1.57264.1"
_LEAF_LIFETIME = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class WorkflowIdentity:
    """Who signed, as a workflow's token says it and as a certificate repeats it.

    `repository` is `owner/name`, `workflow_path` the file's path in it and `ref` the full ref. `signer_workflow`
    (`owner/name/path@ref`) and `signer_sha` name the reusable workflow that did the signing, where it was another.
    """

    repository: str
    repository_id: int
    owner_id: int
    sha: str
    run_id: int
    run_attempt: int = 1
    ref: str = "refs/heads/main"
    workflow_path: str = ".github/workflows/release.yml"
    workflow_name: str = "Release"
    workflow_sha: str | None = None
    signer_workflow: str | None = None
    signer_sha: str | None = None
    trigger: str = "push"
    runner_environment: str = "github-hosted"
    visibility: str = "public"
    issuer: str = GITHUB_ISSUER
    server_url: str = "https://github.com"
    deployment_environment: str | None = None
    token_subject: str | None = None

    @property
    def owner(self) -> str:
        """The owner's name."""
        return self.repository.split("/", 1)[0]

    @property
    def repository_uri(self) -> str:
        """The source repository (extension .12)."""
        return f"{self.server_url}/{self.repository}"

    @property
    def build_config_uri(self) -> str:
        """The workflow that ran (.18)."""
        return f"{self.repository_uri}/{self.workflow_path}@{self.ref}"

    @property
    def build_signer_uri(self) -> str:
        """The workflow that signed (.9, and the certificate's name): the one that ran, unless it called another."""
        return f"{self.server_url}/{self.signer_workflow}" if self.signer_workflow else self.build_config_uri

    @property
    def run_invocation_uri(self) -> str:
        """The run and its attempt (.21)."""
        return f"{self.repository_uri}/actions/runs/{self.run_id}/attempts/{self.run_attempt}"

    def extensions(self) -> dict[int, str]:
        """The certificate's own extensions: the last part of 1.3.6.1.4.1.57264.1.N and its text."""
        workflow_sha = self.workflow_sha or self.sha
        texts = {
            1: self.issuer,
            2: self.trigger,
            3: self.sha,
            4: self.workflow_name,
            5: self.repository,
            6: self.ref,
            8: self.issuer,
            9: self.build_signer_uri,
            10: self.signer_sha or workflow_sha,
            11: self.runner_environment,
            12: self.repository_uri,
            13: self.sha,
            14: self.ref,
            15: str(self.repository_id),
            16: f"{self.server_url}/{self.owner}",
            17: str(self.owner_id),
            18: self.build_config_uri,
            19: workflow_sha,
            20: self.trigger,
            21: self.run_invocation_uri,
            22: self.visibility,
            23: self.deployment_environment,
            24: self.token_subject,
        }
        return {number: text for number, text in texts.items() if text is not None}


def provenance(identity: WorkflowIdentity, subjects: Mapping[str, str]) -> dict[str, Any]:
    """A SLSA v1 provenance statement as GitHub's own action writes it; `subjects` maps names to digests.

    A digest is `sha256:<hex>` (or another algorithm before the colon). Give `sign` another identity than here for a
    statement whose claims disagree with its certificate.
    """
    predicate = {
        "buildDefinition": {
            "buildType": GITHUB_BUILD_TYPE,
            "externalParameters": {
                "workflow": {
                    "ref": identity.ref,
                    "repository": identity.repository_uri,
                    "path": identity.workflow_path,
                }
            },
            "internalParameters": {
                "github": {
                    "event_name": identity.trigger,
                    "repository_id": str(identity.repository_id),
                    "repository_owner_id": str(identity.owner_id),
                    "runner_environment": identity.runner_environment,
                }
            },
            "resolvedDependencies": [
                {"uri": f"git+{identity.repository_uri}@{identity.ref}", "digest": {"gitCommit": identity.sha}}
            ],
        },
        "runDetails": {
            "builder": {"id": identity.build_signer_uri},
            "metadata": {"invocationId": identity.run_invocation_uri},
        },
    }
    return in_toto_statement(PROVENANCE_TYPE, predicate, subjects)


def in_toto_statement(predicate_type: str, predicate: Mapping[str, Any], subjects: Mapping[str, str]) -> dict[str, Any]:
    """A statement of any predicate (an SBOM, say) about subjects given as name → `sha256:<hex>`."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": _digest_set(digest)} for name, digest in subjects.items()],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, colon, value = digest.partition(":")
    if not colon:
        raise ValueError(f"the digest {digest!r} names no algorithm; write it as sha256:<hex>")
    return {algorithm: value}


class TrustRoot:
    """Two instances, a public one with logs and a private one without, and the two trusted roots that know them.

    The same seed and name, with the same calls in the same order, give the same bytes. Order matters to the log alone:
    an entry's proof depends on what was logged before it.
    """

    def __init__(self, seed: Seed, name: str) -> None:
        self.name = name
        self._seed = seed
        self._domain = f"{re.sub('[^a-z0-9]+', '-', name.casefold())}.test"
        signing = ExtendedKeyUsageOID.CODE_SIGNING
        self._public = CertificateAuthority(seed, name, "Signing", signing)
        self._private = CertificateAuthority(seed, name, "Private signing", signing)
        self._public_clock = TimestampAuthority(seed, name)
        self._private_clock = TimestampAuthority(seed, f"{name} private")
        self._certificate_log = CertificateLog(seed, name)
        self._signature_log = SignatureLog(seed, name, f"rekor.{self._domain}")

    @classmethod
    def from_seed(cls, seed: int | str, name: str) -> TrustRoot:
        """The trust root of a seed; `name` stands in its certificates and tells it from others."""
        return cls(Seed(f"{seed}\n{name}".encode()), name)

    def trusted_root_json(self) -> bytes:
        """What a verifier must know to accept witnessed bundles (a `trusted_root.json`)."""
        return _json(
            {
                "mediaType": TRUSTED_ROOT_TYPE,
                "tlogs": [self._log(f"https://rekor.{self._domain}", self._signature_log.key)],
                "certificateAuthorities": [self._signing_authority("fulcio", self._public)],
                "ctlogs": [self._log(f"https://ctfe.{self._domain}", self._certificate_log.key)],
                "timestampAuthorities": [self._clock("timestamp", self._public_clock)],
            }
        )

    def private_trusted_root_json(self) -> bytes:
        """What a verifier must know to accept bundles without a witness: it knows no log."""
        return _json(
            {
                "mediaType": TRUSTED_ROOT_TYPE,
                "certificateAuthorities": [self._signing_authority("private.fulcio", self._private)],
                "timestampAuthorities": [self._clock("private.timestamp", self._private_clock)],
            }
        )

    def sign(
        self,
        statement: Mapping[str, Any],
        identity: WorkflowIdentity,
        at: datetime,
        *,
        witnessed: bool = True,
        timestamped: bool = False,
        entry: Literal["dsse", "intoto"] = "dsse",
    ) -> bytes:
        """A bundle of the statement, signed at a time (with its offset) to the second, as JSON.

        A witnessed one stands in the log, whose time it carries, with a signed timestamp too where `timestamped`. One
        without a witness comes from the private instance and always has a timestamp, its only proof of time. An
        `intoto` entry (version 0.0.2) is one that sigstore's verifiers cannot read.
        """
        if at.utcoffset() is None:
            raise ValueError(f"the signing time {at.isoformat()} has no time zone; give an aware datetime")
        at = at.astimezone(UTC).replace(microsecond=0)
        payload = _json(statement)
        key = self._seed.key("leaf", payload, _json(identity.extensions()), at.isoformat(), str(witnessed))
        certificate = self._leaf(key, identity, at, witnessed=witnessed)
        # DSSE's pre-authentication encoding
        signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        signature = sign_bytes(key, signed)
        envelope = {
            "payload": _base64(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _base64(signature)}],
        }
        material: dict[str, Any] = {"certificate": {"rawBytes": _base64(certificate.public_bytes(Encoding.DER))}}
        if witnessed:
            pem = _base64(certificate.public_bytes(Encoding.PEM))
            spec: dict[str, Any]
            if entry == "dsse":
                version, spec = (
                    "0.0.1",
                    {
                        "envelopeHash": _sha256(_json(envelope)),
                        "payloadHash": _sha256(payload),
                        "signatures": [{"signature": _base64(signature), "verifier": pem}],
                    },
                )
            else:
                # Here the signature's text is encoded once more.
                signed_by = {"publicKey": pem, "sig": _base64(_base64(signature).encode())}
                version, spec = (
                    "0.0.2",
                    {
                        "content": {
                            "envelope": {"payloadType": PAYLOAD_TYPE, "signatures": [signed_by]},
                            "hash": _sha256(_json(envelope)),
                            "payloadHash": _sha256(payload),
                        }
                    },
                )
            material["tlogEntries"] = [self._signature_log.append(entry, version, spec, at)]
        if timestamped or not witnessed:
            clock = self._public_clock if witnessed else self._private_clock
            stamps = [{"signedTimestamp": _base64(clock.stamp(signature, at))}]
            material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
        return _json({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})

    def _leaf(
        self, key: ec.EllipticCurvePrivateKey, identity: WorkflowIdentity, at: datetime, *, witnessed: bool
    ) -> x509.Certificate:
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.build_signer_uri)])
        extensions: list[tuple[x509.ExtensionType, bool]] = [(name, True)]
        for number, text in identity.extensions().items():
            # The first six are older than the rule that an extension is DER, and stay plain text.
            value = text.encode() if number <= 6 else asn1.encode_der(text)
            oid = x509.ObjectIdentifier(f"{_FULCIO}.{number}")
            extensions.append((x509.UnrecognizedExtension(oid, value), False))
        validity = (at, at + _LEAF_LIFETIME)
        if witnessed:
            return self._public.issue(key, validity, extensions, certificate_log=self._certificate_log)
        return self._private.issue(key, validity, extensions)

    def _signing_authority(self, host: str, authority: CertificateAuthority) -> dict[str, Any]:
        return self._authority(host, "Signing root", [authority.intermediate, authority.root])

    def _clock(self, host: str, clock: TimestampAuthority) -> dict[str, Any]:
        return self._authority(host, "Timestamp root", clock.chain)

    def _authority(self, host: str, common_name: str, chain: list[x509.Certificate]) -> dict[str, Any]:
        return {
            "subject": {"organization": self.name, "commonName": common_name},
            "uri": f"https://{host}.{self._domain}",
            "certChain": {"certificates": [{"rawBytes": _base64(item.public_bytes(Encoding.DER))} for item in chain]},
            "validFor": {"start": _rfc3339(VALID_FROM)},
        }

    def _log(self, url: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": _base64(public_der(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": _rfc3339(VALID_FROM)},
            },
            "logId": {"keyId": _base64(key_id(key))},
        }


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
