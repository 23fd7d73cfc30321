"""Licences against lists: allow, deny, review."""

import pytest

from analytics.supply_chain.sboms.facts import Component
from analytics.supply_chain.sboms.licences import LicencePolicy, judge_licences
from tests.unit.supply_chain.sboms.sbom_world import cyclonedx, facts, library

POLICY = LicencePolicy(
    allow=("MIT", "Apache-2.0", "BSD-*", "LGPL-*", "GPL-2.0-only WITH Classpath-exception-2.0", "Acme Licence"),
    deny=("GPL-*", "AGPL-*", "SSPL-1.0"),
    review=("MPL-2.0", "LGPL-3.0-only"),
)


def component(*texts: str, concluded: str | None = None) -> Component:
    """A component with these declared licences, read as a document's are."""
    licenses = [{"expression": text, "acknowledgement": "declared"} for text in texts]
    if concluded:
        licenses.append({"expression": concluded, "acknowledgement": "concluded"})
    return facts(cyclonedx(components=[library(licenses=licenses)])).components[0]


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        ("MIT", "allow", "MIT is on the list `allow`"),
        ("mit", "allow", "MIT is on the list `allow`"),
        ("BSD-3-Clause", "allow", "BSD-3-Clause is on the list `allow` (BSD-*)"),
        ("GPL-3.0-or-later", "deny", "GPL-3.0-or-later is on the list `deny` (GPL-*)"),
        ("GPL-3.0", "deny", "GPL-3.0-only is on the list `deny` (GPL-*)"),
        ("MPL-2.0", "review", "MPL-2.0 is on the list `review`"),
        ("Zlib", "review", "Zlib is on no list"),
        ("LicenseRef-Acme", "review", "LicenseRef-Acme is on no list"),
        # An id counts before a pattern.
        ("LGPL-3.0-only", "review", "LGPL-3.0-only is on the list `review`"),
        ("LGPL-2.1-only", "allow", "LGPL-2.1-only is on the list `allow` (LGPL-*)"),
        # Of alternatives the mildest may be chosen; what applies together is as grave as the gravest.
        ("MIT OR GPL-2.0-only", "allow", "MIT is on the list `allow`"),
        ("MIT AND GPL-2.0-only", "deny", "GPL-2.0-only is on the list `deny` (GPL-*)"),
        ("(MIT OR GPL-2.0-only) AND MPL-2.0", "review", "MPL-2.0 is on the list `review`"),
        ("GPL-2.0-only OR (AGPL-3.0-only AND MIT)", "deny", "GPL-2.0-only is on the list `deny` (GPL-*)"),
        # An exception that a list names frees; another does not.
        ("GPL-2.0-only WITH Classpath-exception-2.0", "allow", "GPL-2.0-only WITH Classpath-exception-2.0 is on"),
        ("GPL-2.0-only WITH Bison-exception-2.2", "deny", "GPL-2.0-only WITH Bison-exception-2.2 is on"),
    ],
)
def test_an_expression_is_judged_by_its_licences(text: str, outcome: str, reason: str) -> None:
    (judged,) = judge_licences([component(text)], POLICY)
    assert judged.outcome == outcome
    assert judged.reason.startswith(reason)


def test_a_component_without_a_licence_is_to_be_looked_at() -> None:
    (judged,) = judge_licences([component()], POLICY)
    assert (judged.outcome, judged.reason) == ("review", "no licence is stated")


def test_a_concluded_licence_counts_instead_of_the_declared_one() -> None:
    (judged,) = judge_licences([component("GPL-3.0-only", concluded="MIT")], POLICY)
    assert (judged.outcome, judged.licences) == ("allow", ("MIT",))


def test_several_licences_apply_together() -> None:
    (judged,) = judge_licences([component("MIT", "SSPL-1.0")], POLICY)
    assert judged.outcome == "deny"


def test_a_licence_that_is_prose_can_be_named_in_a_list() -> None:
    for name, outcome in (("Acme Licence", "allow"), ("Other Licence", "review")):
        found = facts(cyclonedx(components=[library(licenses=[{"license": {"name": name}}])]))
        (judged,) = judge_licences(found.components, POLICY)
        assert judged.outcome == outcome


def test_a_broken_expression_is_to_be_looked_at_with_its_problem() -> None:
    (judged,) = judge_licences([component("MIT AND")], POLICY)
    assert judged.outcome == "review"
    assert judged.reason.startswith("`MIT AND`: ExpressionError")


def test_denial_counts_before_allowance_of_the_same_pattern() -> None:
    (judged,) = judge_licences([component("MIT")], LicencePolicy(allow=("MIT",), deny=("MIT",)))
    assert judged.outcome == "deny"


@pytest.mark.parametrize(("entry", "text"), [("GPL-2.0", "GPL-2.0-only"), ("GPL-2.0+", "GPL-2.0-or-later")])
def test_an_entry_by_a_deprecated_id_means_the_current_one(entry: str, text: str) -> None:
    (judged,) = judge_licences([component(text)], LicencePolicy(deny=(entry,)))
    assert judged.outcome == "deny"
