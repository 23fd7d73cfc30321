"""Worked examples: a few records and the value that they make, computed by hand.

They are shown in docs/metrics.md, and a test runs them all. Each lives in 2026-Q1 in UTC, with a cut-off of 10 April,
and shares nothing with the others, so that one run measures them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

QUARTER = "2026-Q1"
CUT_OFF = "2026-04-10T00:00:00Z"


@dataclass(frozen=True)
class Answer:
    """The value of one metric, the parts that it is made of, and the sum in words."""

    metric: str
    scope: str
    name: str
    parts: Mapping[str, float]
    because: str


@dataclass(frozen=True)
class Example:
    """Services, records of feeds (and rows of tables that `verify` writes) with what they share, and the answers."""

    key: str
    title: str
    story: str
    services: Sequence[Mapping[str, Any]]
    common: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    answers: Sequence[Answer]

    def full_records(self, entity: str) -> list[dict[str, Any]]:
        """Records (or rows) of an entity with the fields that they share."""
        given = self.records.get(entity) or self.tables.get(entity) or ()
        return [{**self.common.get(entity, {}), **record} for record in given]


@lru_cache(maxsize=1)
def examples() -> tuple[Example, ...]:
    """Every worked example, by the name of its file."""
    folder = resources.files("analytics.metrics").joinpath("worked_examples")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return tuple(_example(file.name.removesuffix(".yaml"), file.read_text(encoding="utf-8")) for file in files)


def example_of(metric: str) -> tuple[Example, Answer]:
    """The example that works a metric, and its answer; KeyError where there is none."""
    for example in examples():
        for answer in example.answers:
            if answer.metric == metric:
                return example, answer
    raise KeyError(metric)


def _example(key: str, text: str) -> Example:
    # Times stay text, as feeds have them.
    given = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 (it makes nothing but text, lists and mappings)
    typed = yaml.safe_load(text)
    return Example(
        key=key,
        title=typed["title"],
        story=typed["story"].strip(),
        services=typed["services"],
        common=_as_text(typed["common"], given["common"]),
        records=_as_text(typed["records"], given["records"]),
        tables=typed.get("tables", {}),
        answers=[
            _answer(metric, answer, str(typed["services"][0]["name"])) for metric, answer in typed["answers"].items()
        ],
    )


def _answer(metric: str, answer: Mapping[str, Any], service: str) -> Answer:
    parts = {name: float(part) for name, part in answer.items() if name not in ("scope", "name", "because")}
    return Answer(metric, answer.get("scope", "service"), answer.get("name", service), parts, answer["because"])


def _as_text(typed: Any, given: Any) -> Any:
    """The typed value, with its times as they were written."""
    if isinstance(typed, dict):
        return {name: _as_text(value, given[name]) for name, value in typed.items()}
    if isinstance(typed, list):
        return [_as_text(value, text) for value, text in zip(typed, given, strict=True)]
    return typed if isinstance(typed, str | int | float | bool) or typed is None else given
