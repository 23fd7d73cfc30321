"""Package URLs, licence expressions and hashes out of text that anybody may have written.

Source: supply-chain.md section 2 (purl by packageurl-python, licences by license-expression with exceptions caught).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from license_expression import Licensing, get_spdx_licensing
from packageurl import PackageURL

from analytics.supply_chain.sboms.facts import Hash, Licence, LicenceRole, Purl
from analytics.supply_chain.sboms.reading import shortened

MOST_PURL_CHARACTERS: Final = 2_048
MOST_LICENCE_CHARACTERS: Final = 4_096
# Deeper parentheses are nobody's licence, and parsing them is recursive.
MOST_LICENCE_PARENTHESES: Final = 50
_MOST_HASH_CHARACTERS: Final = 256
_NO_STATEMENT: Final = frozenset({"", "NOASSERTION"})
_NO_LICENCE: Final = "NONE"

_ALGORITHMS: Final = {
    "SHA1": "SHA-1",
    "SHA224": "SHA-224",
    "SHA256": "SHA-256",
    "SHA384": "SHA-384",
    "SHA512": "SHA-512",
    "BLAKE2B-256": "BLAKE2b-256",
    "BLAKE2B-384": "BLAKE2b-384",
    "BLAKE2B-512": "BLAKE2b-512",
}


@lru_cache(maxsize=16_384)
def parsed_purl(text: str) -> tuple[Purl | None, str | None]:
    """The package URL in its parts, or None and what is wrong with it."""
    if len(text) > MOST_PURL_CHARACTERS:
        return None, f"it is longer than {MOST_PURL_CHARACTERS:,} characters"
    try:
        parts = PackageURL.from_string(text)
        qualifiers = parts.qualifiers if isinstance(parts.qualifiers, dict) else {}
        return (
            Purl(
                text=text,
                type=parts.type,
                namespace=parts.namespace or None,
                name=parts.name,
                version=parts.version or None,
                qualifiers=tuple(sorted((str(key), str(value)) for key, value in qualifiers.items())),
                subpath=parts.subpath or None,
            ),
            None,
        )
    # The library raises more than it documents; whatever it is, the text is no package URL that can be read.
    except Exception as error:
        return None, _words(error)


def read_licence(text: str, role: LicenceRole = "unstated", *, free_text: bool = False) -> Licence | None:
    """A licence out of an id, an expression or (`free_text`) a name; None where nothing is asserted.

    A name counts as an expression only when SPDX's list knows all of it: most names are prose.
    """
    text = text.strip()
    if text.upper() in _NO_STATEMENT:
        return None
    if text.upper() == _NO_LICENCE:
        return Licence(_NO_LICENCE, None, role=role, problem="it says that there is no licence")
    expression, unknown, problem = _parsed_licence(text)
    if free_text and (unknown or problem):
        return Licence(shortened(text, 200), None, role=role, problem="it is a name, not an SPDX expression")
    return Licence(shortened(text, MOST_LICENCE_CHARACTERS), expression, unknown, role, problem)


@cache
def licensing() -> Licensing:
    """SPDX's licence list, as license-expression ships it."""
    return get_spdx_licensing()


@lru_cache(maxsize=16_384)
def _parsed_licence(text: str) -> tuple[str | None, tuple[str, ...], str | None]:
    if len(text) > MOST_LICENCE_CHARACTERS:
        return None, (), f"it is longer than {MOST_LICENCE_CHARACTERS:,} characters"
    if text.count("(") > MOST_LICENCE_PARENTHESES:
        return None, (), f"it has more than {MOST_LICENCE_PARENTHESES} parentheses"
    try:
        # Strict: what stands behind WITH has to be an exception.
        parsed = licensing().parse(text, strict=True)
        if parsed is None:
            return None, (), "it is empty"
        unknown = tuple(dict.fromkeys(str(key) for key in licensing().unknown_license_keys(parsed)))
        return str(parsed.render("{symbol.key}")), unknown, None
    except Exception as error:
        return None, (), _words(error)


def read_hash(algorithm: str, value: str) -> Hash | None:
    """A hash with its algorithm's name as CycloneDX spells it; None when it is empty or longer than any hash."""
    algorithm, value = algorithm.strip(), value.strip().lower()
    if not algorithm or not value or len(value) > _MOST_HASH_CHARACTERS or len(algorithm) > _MOST_HASH_CHARACTERS:
        return None
    return Hash(_ALGORITHMS.get(algorithm.upper(), algorithm), value)


def _words(error: Exception) -> str:
    return shortened(f"{type(error).__name__}: {error}", 200)
