"""What every test shares: the tiers, and properties without deadlines.

`tests/unit` is the fast tier. Everything in `tests/pipeline` and `tests/spark` runs whole stages and is slow by where
it stands.
"""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Whole stages, whatever a test in there asks.
SLOW = (Path(__file__).parent / "pipeline", Path(__file__).parent / "spark")

# A machine may be slow; a wrong number is not. CI tries the same examples for the same code, so that it judges a change
# and not the luck of a day; everywhere else each run tries others.
settings.register_profile(
    "quarterdeck",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    database=None if os.environ.get("CI") else settings.default.database,
)
settings.load_profile("quarterdeck")

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests write in memory, where there is room: a disk that syncs takes most of their time."""
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and has_room(MEMORY):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.tempdir = str(MEMORY)


def has_room(folder: Path) -> bool:
    """Whether files can be written and run there, some GiB of them."""
    if not os.access(folder, os.W_OK):
        return False
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize >= ROOM_BYTES and not disk.f_flag & os.ST_NOEXEC


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs whole stages as slow."""
    for item in items:
        if any(folder in item.path.parents for folder in SLOW):
            item.add_marker(pytest.mark.slow)
