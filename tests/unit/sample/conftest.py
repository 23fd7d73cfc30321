from __future__ import annotations

import pytest

from analytics.sample.writing import write_sample
from tests.unit.sample.sample_world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """All twelve kinds of service over four quarters, of which the second is the worse one."""
    return World(write_sample(tmp_path_factory.mktemp("sample"), quarters=4))
