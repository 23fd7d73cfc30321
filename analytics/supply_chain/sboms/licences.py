"""Licences of components against lists of what is allowed, denied and to be looked at.

Source: supply-chain.md section 2 (licence policy: allow, deny, review). Of alternatives (OR) the mildest outcome
counts, since one may be chosen; of what applies together (AND) the gravest. What no list names is to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Any, Final, Literal

from license_expression import LicenseWithExceptionSymbol

from analytics.supply_chain.sboms.facts import Component, Licence
from analytics.supply_chain.sboms.identifiers import licensing, read_licence

Outcome = Literal["allow", "review", "deny"]
_GRAVITY: Final[tuple[Outcome, ...]] = ("allow", "review", "deny")


@dataclass(frozen=True)
class LicencePolicy:
    """SPDX ids or patterns (`GPL-*`), matched without case; an id counts before a pattern, and denial before the rest.

    An entry may name an exception (`GPL-2.0-only WITH Classpath-exception-2.0`); without such an entry a licence with
    an exception is judged as the licence.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    review: tuple[str, ...] = ()

    def of(self, name: str) -> tuple[Outcome, str] | None:
        """The outcome for one licence id and the entry that decided it; None when no list names it."""
        folded = name.casefold()
        lists: tuple[tuple[Outcome, tuple[str, ...]], ...] = (
            ("deny", self.deny),
            ("review", self.review),
            ("allow", self.allow),
        )
        for outcome, entries in lists:
            for entry in entries:
                if folded in _spellings(entry):
                    return outcome, entry
        for outcome, entries in lists:
            for entry in entries:
                if fnmatchcase(folded, entry.casefold()):
                    return outcome, entry
        return None


@cache
def _spellings(entry: str) -> frozenset[str]:
    """An entry as it was written and by its current SPDX id: GPL-2.0 became GPL-2.0-only."""
    licence = read_licence(entry)
    current = licence.expression if licence is not None and licence.expression else entry
    return frozenset({entry.casefold(), current.casefold()})


@dataclass(frozen=True, slots=True)
class LicenceOutcome:
    """What the policy says of one component, and why; `licences` are the texts that were judged."""

    component: Component
    outcome: Outcome
    licences: tuple[str, ...]
    reason: str


def judge_licences(components: Iterable[Component], policy: LicencePolicy) -> list[LicenceOutcome]:
    """One outcome per component. Concluded licences count before declared ones; several apply together."""
    return [_judge(component, policy) for component in components]


def _judge(component: Component, policy: LicencePolicy) -> LicenceOutcome:
    licences = _counting(component.licences)
    texts = tuple(licence.text for licence in licences)
    if not licences:
        return LicenceOutcome(component, "review", (), "no licence is stated")
    outcome, reason = max((judge_licence(licence, policy) for licence in licences), key=_gravity)
    return LicenceOutcome(component, outcome, texts, reason)


def _counting(licences: tuple[Licence, ...]) -> tuple[Licence, ...]:
    concluded = tuple(licence for licence in licences if licence.role == "concluded")
    return concluded or licences


@lru_cache(maxsize=16_384)
def judge_licence(licence: Licence, policy: LicencePolicy) -> tuple[Outcome, str]:
    """The outcome for one licence or expression and the reason."""
    if licence.expression is None:
        # Prose can still be named in a list.
        return _named(licence.text, policy) or ("review", f"`{licence.text}`: {licence.problem}")
    try:
        return _of_expression(licensing().parse(licence.expression), policy)
    # It was parsed once before; should the library fail now, a person looks at it.
    except Exception as error:
        return "review", f"`{licence.text}`: {type(error).__name__}"


def _of_expression(parsed: Any, policy: LicencePolicy) -> tuple[Outcome, str]:
    """The parser gives operators with `args` and symbols with a `key`; depth was capped when it was read."""
    parts = getattr(parsed, "args", ())
    if parts:
        outcomes = [_of_expression(part, policy) for part in parts]
        choose = min if parsed.operator.strip().upper() == "OR" else max
        return choose(outcomes, key=_gravity)
    if isinstance(parsed, LicenseWithExceptionSymbol):
        whole = _named(f"{parsed.license_symbol.key} WITH {parsed.exception_symbol.key}", policy)
        return whole or _of_name(str(parsed.license_symbol.key), policy)
    return _of_name(str(parsed.key), policy)


def _of_name(name: str, policy: LicencePolicy) -> tuple[Outcome, str]:
    return _named(name, policy) or ("review", f"{name} is on no list")


def _named(name: str, policy: LicencePolicy) -> tuple[Outcome, str] | None:
    found = policy.of(name)
    if found is None:
        return None
    outcome, entry = found
    return outcome, f"{name} is on the list `{outcome}`" + (
        "" if entry.casefold() == name.casefold() else f" ({entry})"
    )


def _gravity(found: tuple[Outcome, str]) -> int:
    return _GRAVITY.index(found[0])
