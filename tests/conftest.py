"""What every test shares: the tiers, and properties without deadlines.

`tests/unit` is the fast tier. Everything in `tests/pipeline` runs whole stages and is slow by where it stands.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PIPELINE = Path(__file__).parent / "pipeline"

# A machine may be slow; a wrong number is not.
settings.register_profile("quarterdeck", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quarterdeck")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs whole stages as slow."""
    for item in items:
        if PIPELINE in item.path.parents:
            item.add_marker(pytest.mark.slow)
