"""File names and links made from untrusted text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.links import page_names, safe_url
from tests.unit.reports.conftest import HOSTILE_NAMES


def test_a_plain_name_is_its_own_page() -> None:
    assert page_names(["checkout", "payment-api"]) == {
        "checkout": "checkout.html",
        "payment-api": "payment-api.html",
    }


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_any_names_give_different_plain_file_names(names: list[str]) -> None:
    pages = page_names(names)
    assert len(set(pages.values())) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{1,80}\.html", page) for page in pages.values())


def test_names_that_differ_in_case_or_end_like_a_hash_do_not_meet() -> None:
    hashed = page_names(["Checkout"])["Checkout"].removesuffix(".html")
    pages = page_names(["checkout", "Checkout", hashed])
    assert len(set(pages.values())) == 3


@pytest.mark.parametrize("name", ["con", "index", *HOSTILE_NAMES])
def test_a_hostile_or_reserved_name_gets_a_hash(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{10}\.html", page_names([name])[name])


def test_http_links_are_kept() -> None:
    assert safe_url("https://incidents.example/INC-7?a=1#b") == "https://incidents.example/INC-7?a=1#b"


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "//evil.example/x",
        "https://",
        "https://user:secret@evil.example/",
        "https:\\\\evil.example",
        "https://ex\u0430mple.org/",
        "https://example.org/ x",
        "https://[::1",
        "https://example.org/" + "a" * 2000,
    ],
)
def test_any_other_link_is_refused(url: str | None) -> None:
    assert safe_url(url) is None
