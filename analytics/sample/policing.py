"""What the sample organisation asks of its deployments: `policies.yaml`, and `waivers.yaml` for what it lets pass.

Source: supply-chain.md sections 1 and 3.
"""

from __future__ import annotations

from analytics.sample.ingredients import ALLOWED_LICENCES, DENIED_LICENCES
from analytics.sample.organisation import ORGANIZATION, OWNER, TEMPLATES
from analytics.sample.timeline import Timeline

OWNER_ID = 77_001_234
# Services whose deployments somebody has to have reviewed and approved.
CONTROLLED = ("payments-gateway", "accounts")
WAIVED_SERVICE = "warehouse-sync"
EXPIRED_SERVICE = "notifications"
NOTHING_WAIVED = "waivers: []\n"


def required_since(timeline: Timeline) -> int:
    """When the policy begins: with the last quarter."""
    return timeline.bounds[-1]


def policies_text(timeline: Timeline) -> str:
    """The policy file."""
    since = timeline.day(required_since(timeline))
    return f"""\
# What {ORGANIZATION} asks of a production deployment; the values that are not here are the built-in ones.
version: 1

defaults:
  source_owner_ids: [{OWNER_ID}]
  signers:
    - "https://github.com/{{repository}}/.github/workflows/*@refs/heads/**"
    - "https://github.com/{TEMPLATES}/*@refs/tags/v*"
  refs: ["refs/heads/main", "refs/heads/hotfix/*"]
  builders:
    - {{id: "https://github.com/{TEMPLATES}/**", level: 3}}
    - {{id: "https://github.com/{OWNER}/**", level: 2}}
    - {{id: "https://github.com/**", level: 1}}
  licenses:
    allow: [{", ".join(ALLOWED_LICENCES)}]
    deny: [{", ".join(DENIED_LICENCES)}]
  vulnerabilities: {{threshold: medium}}
  # Before the day below nothing was asked for.
  required: []

policies:
  - services: ["*"]
    since: {since}
    required: [signature, attestation, sbom]
  - services: [{", ".join(CONTROLLED)}]
    since: {since}
    required: [signature, attestation, sbom, review, separation_of_duties, approval, change_ticket]
"""


def waivers_text() -> str:
    """The waiver file: one waiver that holds, and one that has ended."""
    return f"""\
# Findings that somebody answers for until a day; each is still counted.
waivers:
  - rule: runner
    service: {WAIVED_SERVICE}
    owner: logistics
    reason: The build needs a label printer that only the warehouse has; it moves with the new printers.
    until: 2026-12-31
  - rule: trigger
    service: {EXPIRED_SERVICE}
    owner: engagement
    reason: The preview workflow was kept until the new one was there.
    until: 2026-08-31
"""
