"""What tests of the lake share: an object store, and a lake in memory."""

import uuid
from pathlib import Path

import pytest

from analytics.settings import Settings, load_settings
from tests.fakes import s3 as fake

s3, s3_endpoint, s3_settings = fake.s3, fake.s3_endpoint, fake.s3_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake in fsspec's store in memory: what the store itself does not matter for is tested there."""
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(f"organization: A\nstorage: memory://lake-{uuid.uuid4().hex}\n", encoding="utf-8")
    return load_settings(path)
