from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import dagster as dg
import pytest

from analytics.lake.schemas import TABLES
from analytics.settings import Settings
from assets.metadata import INLINE_CHARACTERS, markdown_table, markdown_text, number, owners, sparkline, value_columns


def drawn(image: str) -> ElementTree.Element:
    found = re.search(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)$", image)
    assert found is not None
    return ElementTree.fromstring(base64.b64decode(found[1]))


@pytest.mark.parametrize("values", [[1.0] * 40, [float(n) for n in range(40)], [1e9, -1e9] * 12])
def test_a_sparkline_is_shown_inline_however_many_quarters(values: list[float | None]) -> None:
    image = sparkline(values, "trend")
    assert 0 < len(image) < INLINE_CHARACTERS
    assert int(drawn(image).attrib["width"]) <= 320


def test_a_sparkline_has_a_gap_where_a_value_is_undefined() -> None:
    svg = drawn(sparkline([1.0, 2.0, None, 2.0, 1.0], "trend"))
    assert svg[0].attrib["d"].count("M") == 2


def test_a_value_between_two_gaps_is_drawn() -> None:
    svg = drawn(sparkline([None, 1.0, None, 2.0], "trend"))
    assert svg[0].attrib["d"].count("h0") == 2


def test_a_rising_value_rises() -> None:
    points = re.findall(r"(\d+) (\d+)", drawn(sparkline([1.0, 5.0, 9.0], "trend"))[0].attrib["d"])
    heights = [int(y) for _, y in points]
    assert heights == sorted(heights, reverse=True)


def test_nothing_defined_draws_nothing() -> None:
    assert sparkline([None, None], "trend") == ""
    assert sparkline([], "trend") == ""


def test_the_text_alternative_cannot_break_out() -> None:
    assert sparkline([1.0, 2.0], "x](http://evil)").startswith("![x\\]\\(http://evil\\)](data:image")


@pytest.mark.parametrize("hostile", ["a|b", "<img src=x>", "[x](http://evil)", "`x`", "**x**", "a\nb", "\\|", "&lt;"])
def test_a_name_is_text_in_markdown(hostile: str) -> None:
    text = markdown_text(hostile)
    assert "\n" not in text
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>\[\]`*&]", text)


def test_a_table_has_its_columns_whatever_the_names() -> None:
    lines = markdown_table(("name", "n"), [("a|b", 1), ("c", 2)]).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]


def test_an_undefined_number_is_null_and_never_zero() -> None:
    assert number(None) == dg.MetadataValue.null()
    assert number(0.1 + 0.2) == dg.MetadataValue.float(0.3)
    assert number(3) == dg.MetadataValue.int(3)


@pytest.mark.parametrize(
    ("owner", "wanted"),
    [
        (None, ["team:delivery-metrics"]),
        ("ada@example.com", ["ada@example.com"]),
        ("Platform & Tools", ["team:platform---tools"]),
        ("@platform", ["team:platform"]),
        ("platform@acme", ["team:platform-acme"]),
        ("@own<i>", ["team:own-i"]),
    ],
)
def test_owners_are_what_dagster_accepts(settings: Settings, owner: str | None, wanted: list[str]) -> None:
    reports = settings.reports.model_copy(update={"owner": owner})
    found = owners(settings.model_copy(update={"reports": reports}))
    assert found == wanted
    dg.AssetSpec("x", owners=found)


def test_every_column_of_metric_values_says_what_it_holds() -> None:
    columns = value_columns()["dagster/column_schema"].columns
    assert [column.name for column in columns] == list(TABLES["metric_values"].columns)
    assert [column.name for column in columns if not column.description] == []
