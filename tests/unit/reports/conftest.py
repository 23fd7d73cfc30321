"""A small pack, made once for all tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.settings import Settings
from reports.pack import PackResult, make_pack
from tests.unit.reports.published_world import QUARTER, publish, settings_of, small_world

# What someone might name a service, a workflow or an incident to get at the reader.
HOSTILE_NAMES = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe",
    '<a href="javascript:alert(1)">x</a> $x$',
    "con",
    "a" * 300,
    "{{ 7 * 7 }}",
    "[x](javascript:alert(1))",
)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose storage holds the small world, published."""
    settings = settings_of(tmp_path_factory.mktemp("storage"))
    publish(settings, small_world())
    return settings


@pytest.fixture(scope="session")
def pack(settings: Settings) -> PackResult:
    return make_pack(settings, QUARTER)


@pytest.fixture(scope="session")
def hostile_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack in which every name is an attack."""
    settings = settings_of(tmp_path_factory.mktemp("hostile"))
    world = small_world()
    for name in HOSTILE_NAMES:
        world.add("services", service=name, team=name, tier=1, repository=name)
        world.share("change_fail_rate", 30, 40, scope="service", name=name, reading=name)
        world.hostile(name)
    publish(settings, world)
    return make_pack(settings, QUARTER).path
