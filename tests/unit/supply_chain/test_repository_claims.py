"""A claimed source against the certified one: another spelling is no forgery, another repository is."""

import dataclasses
from datetime import UTC, datetime

import pytest

from analytics.supply_chain.certificates import CertificateFacts
from analytics.supply_chain.claims import check_claims
from analytics.supply_chain.statements import REPOSITORY, Claim, read_statement, repository_key

AT = datetime(2024, 5, 1, tzinfo=UTC)
FACTS = CertificateFacts("CN=ca", AT, AT, (), source_repository="https://github.com/Acme/Shop", source_commit="c0" * 20)


@pytest.mark.parametrize(
    ("claimed", "agrees"),
    [
        ("https://github.com/acme/shop", True),
        ("git+https://github.com/acme/shop.git@refs/heads/main", True),
        ("git@github.com:acme/shop.git", True),
        ("git+ssh://git@github.com/acme/shop.git", True),
        ("ssh://git@evil.example/acme/shop", False),
        ("acme/shop", True),
        ("github.com/acme/shop", True),
        ("https://github.com/acme/shop2", False),
        ("https://github.com.evil.example/acme/shop", False),
        ("https://evil.example@github.com/acme/shop", False),
        ("git@evil.example:acme/shop", False),
        ("evil/shop", False),
        # No address: it can neither agree nor contradict.
        ("pkg:docker/acme/shop@1.0", None),
        ("oci://ghcr.io/acme/shop", None),
    ],
)
def test_a_claimed_repository_is_held_against_the_certified_one(claimed: str, agrees: bool | None) -> None:
    (checked,) = check_claims([Claim(REPOSITORY, claimed, "here")], FACTS)
    assert checked.agrees is agrees


def test_nothing_is_certified_of_a_certificate_without_a_repository() -> None:
    silent = dataclasses.replace(FACTS, source_repository=None)
    (checked,) = check_claims([Claim(REPOSITORY, "https://github.com/acme/shop", "here")], silent)
    assert checked.agrees is None


def test_a_base_image_is_not_taken_for_the_source() -> None:
    payload = (
        b'{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2", '
        b'"subject": [{"name": "shop", "digest": {"sha256": "00"}}], "predicate": {"materials": ['
        b'{"uri": "pkg:docker/library/alpine@3.18?platform=linux%2Famd64", "digest": {"sha256": "00"}}]}}'
    )
    assert read_statement("application/vnd.in-toto+json", payload).claims == ()


def test_a_very_long_address_is_read_and_not_kept() -> None:
    assert repository_key("https://github.com/acme/" + "a" * 100_000) == "github.com/acme/" + "a" * 100_000
