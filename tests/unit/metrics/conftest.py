"""What tests of measuring share."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.delivery.build import build
from analytics.landing.pull import pull
from analytics.sample.writing import write_sample
from analytics.settings import Settings, load_settings


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small sample, built and measured once; tests change its lake further."""
    folder: Path = tmp_path_factory.mktemp("carrying")
    write_sample(folder, services=12, quarters=3)
    settings = load_settings(folder / "quarterdeck.yaml")
    pull(settings)
    build(settings)
    (settings.packs_dir / "2099-Q4").mkdir(parents=True)  # every quarter that is over counts as published
    return settings
