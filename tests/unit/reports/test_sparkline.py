"""Sparklines: a line through what is known, and every value in words."""

from __future__ import annotations

import re

from reports.sparkline import SparkPoint, sparkline


def test_every_quarter_is_told_in_words() -> None:
    text = sparkline([SparkPoint("2026-Q2", 1.0, "1 h"), SparkPoint("2026-Q3", None, "not collected")])
    assert "<title>2026-Q2: 1 h; 2026-Q3: not collected</title>" in text


def test_words_are_escaped() -> None:
    text = sparkline([SparkPoint("2026-Q3", 1.0, "</title><script>")])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_gap_is_not_bridged() -> None:
    values = [1.0, 2.0, None, 4.0, 5.0]
    text = sparkline([SparkPoint(f"q{n}", value, "") for n, value in enumerate(values)])
    assert text.count("<polyline") == 2


def test_the_highest_value_stands_highest() -> None:
    text = sparkline([SparkPoint("a", 1.0, ""), SparkPoint("b", 9.0, ""), SparkPoint("c", 5.0, "")])
    found = re.search(r'points="([^"]+)"', text)
    assert found is not None
    heights = [float(pair.split(",")[1]) for pair in found[1].split()]
    assert heights[1] < heights[2] < heights[0]


def test_nothing_known_is_said_and_not_drawn() -> None:
    text = sparkline([SparkPoint("2026-Q3", None, "no policy configured")])
    assert "<svg" not in text
    assert "no values to draw" in text
    assert "no policy configured" in text
