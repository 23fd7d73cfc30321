"""A readable document → its facts, whether or not its schema holds.

Source: supply-chain.md section 2.
"""

from __future__ import annotations

from dataclasses import replace

from analytics.supply_chain.sboms.cyclonedx_json import cyclonedx_facts
from analytics.supply_chain.sboms.cyclonedx_xml import json_form
from analytics.supply_chain.sboms.facts import Facts
from analytics.supply_chain.sboms.noting import Notes
from analytics.supply_chain.sboms.reading import Document
from analytics.supply_chain.sboms.spdx import spdx_facts


def read_facts(document: Document) -> Facts:
    """Everything that can be read; what cannot stands in `notes`."""
    notes = Notes()
    if document.format == "SPDX":
        facts = spdx_facts(document.json_value or {}, document.spec_version, notes)
    else:
        value = json_form(document.xml_root) if document.json_value is None else document.json_value
        facts = cyclonedx_facts(value, document.encoding, document.spec_version, notes)
    return replace(facts, notes=notes.all())
