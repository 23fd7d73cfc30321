from pathlib import Path

import pytest

from tests.unit.landing.landing_world import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)
