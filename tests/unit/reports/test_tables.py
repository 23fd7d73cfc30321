from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime

import pytest

from reports.tables import as_csv, as_json, printable, text_table


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),  # the 8-bit form of the same
        ("abc\u202egpj", "abc\\u202egpj"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("two\nlines\ttab", "two\\nlines\\ttab"),
        ("a\u2028b", "a\\u2028b"),
        ("lone\ud800", "lone\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


def test_letters_of_any_script_stay() -> None:
    assert printable("Zahlungen für 北京 ✓") == "Zahlungen für 北京 ✓"


def test_a_line_break_can_be_kept() -> None:
    assert printable("a\nb\x07", keep="\n") == "a\nb\\x07"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\uff1d1"])
def test_a_cell_that_a_spreadsheet_would_compute_gets_an_apostrophe(cell: str) -> None:
    [_, row] = csv.reader(io.StringIO(as_csv([{"name": cell}], ["name"])))
    assert row[0].startswith("'")


def test_a_negative_number_in_csv_stays_a_number() -> None:
    assert as_csv([{"value": -2.5, "n": None}], ["value", "n"]) == "value,n\n-2.5,\n"


def test_csv_holds_no_terminal_escape() -> None:
    assert "\x1b" not in as_csv([{"name": "\x1b[2J"}], ["name"])


def test_json_is_ascii_so_that_no_terminal_obeys_it() -> None:
    text = as_json([{"name": "\x9b31m\u202e"}])
    assert text.isascii()
    assert json.loads(text) == [{"name": "\x9b31m\u202e"}]


def test_json_times_are_rfc_3339() -> None:
    values = [datetime(2026, 1, 2, 3, 4), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), date(2026, 1, 2)]
    assert json.loads(as_json(values)) == ["2026-01-02T03:04:00Z", "2026-01-02T03:04:00Z", "2026-01-02"]


def test_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json([float("nan")])


def test_a_table_keeps_each_row_on_one_line_where_no_width_is_set() -> None:
    text = text_table([["x" * 300, 1], ["y", 22]], ["name", ">n"])
    assert [len(line.split()) for line in text.splitlines()] == [2, 2, 2]
    assert text.splitlines()[1].endswith(" 1")
    assert text.splitlines()[2].endswith("22")


def test_a_table_takes_names_as_text_and_not_as_markup() -> None:
    assert "[red]x[/red]" in text_table([["[red]x[/red]"]], ["name"])


def test_a_table_folds_into_the_width_of_a_terminal() -> None:
    assert max(map(len, text_table([["word " * 40]], ["name"], width=40).splitlines())) <= 40
