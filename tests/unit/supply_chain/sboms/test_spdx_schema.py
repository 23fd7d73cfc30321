"""Our table of SPDX's fields gives the verdicts of the specification's own schema files."""

import copy
import json
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.supply_chain.sboms.spdx_schema import SpdxVersion, spdx_schema
from tests.unit.supply_chain.sboms.sbom_world import FOLDER, needs_real, paths, real

pytestmark = needs_real
OFFICIAL: dict[SpdxVersion, str] = {"2.2": "spdx-schema-2.2.2.json", "2.3": "spdx-schema-2.3.1.json"}
VERSIONS: tuple[SpdxVersion, ...] = ("2.2", "2.3")
ODD = st.sampled_from([None, 7, 1.5, True, "", "x", "SHA1", "OTHER", "PACKAGE-MANAGER", [], ["x"], [7], {}, {"x": 1}])


@cache
def official(version: SpdxVersion) -> jsonschema_rs.Validator:
    """The specification's own schema."""
    schema = json.loads((FOLDER / "schemas" / "spdx" / OFFICIAL[version]).read_text(encoding="utf-8"))
    return jsonschema_rs.validator_for(schema, offline=True)


@cache
def ours(version: SpdxVersion) -> jsonschema_rs.Validator:
    """The schema that is made of our table."""
    return jsonschema_rs.validator_for(spdx_schema(version), offline=True)


@cache
def documents() -> list[Any]:
    """The real documents, the larger ones cut to a few items of each list."""
    return [_cut(real(place).json_value) for place in paths("SPDX json")]


@pytest.mark.parametrize("version", VERSIONS)
def test_real_documents_get_the_same_verdict(version: SpdxVersion) -> None:
    for place in paths("SPDX json"):
        value = real(place).json_value
        assert ours(version).is_valid(value) == official(version).is_valid(value), place


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
def test_documents_changed_in_a_few_places_get_the_same_verdict(version: SpdxVersion, data: st.DataObject) -> None:
    value = copy.deepcopy(data.draw(st.sampled_from(documents())))
    for _ in range(data.draw(st.integers(1, 3))):
        holder: Any = value
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and holder[key] and data.draw(st.booleans()):
                holder = holder[key]
                continue
            change = data.draw(st.sampled_from(["remove", "replace", "add"]))
            if change == "remove":
                del holder[key]
            elif change == "replace" or isinstance(holder, list):
                holder[key] = copy.deepcopy(data.draw(ODD))
            else:
                holder["unheard-of"] = 1
            break
    assert ours(version).is_valid(value) == official(version).is_valid(value)


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(part) for key, part in value.items()}
    return [_cut(part) for part in value[:3]] if isinstance(value, list) else value
