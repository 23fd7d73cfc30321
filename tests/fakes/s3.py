"""An object store for lakes: moto's server on this machine, with credentials that are none. Import the fixtures."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analytics.settings import Settings, load_settings

if TYPE_CHECKING:
    import s3fs

KEY, SECRET = "AKIDNOBODYSKEY000000", "canary/s3cret+value0000000000000000000000"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a fake S3."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3(s3_endpoint: str) -> s3fs.S3FileSystem:
    """A client to look behind the lake's back."""
    import s3fs

    return s3fs.S3FileSystem(
        key=KEY, secret=SECRET, endpoint_url=s3_endpoint, use_listings_cache=False, skip_instance_cache=True
    )


@pytest.fixture
def s3_settings(
    tmp_path: Path, s3_endpoint: str, s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Settings]:
    """Settings whose lake is below a prefix of a fresh bucket."""
    monkeypatch.setenv("LAKE_KEY", KEY)
    monkeypatch.setenv("LAKE_SECRET", SECRET)
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3.mkdir(bucket)

    def make(prefix: str = "lake") -> Settings:
        path = tmp_path / "quarterdeck.yaml"
        path.write_text(
            f"""
organization: A
storage:
  lake: "s3://{bucket}/{prefix}"
  options: {{endpoint_url: "{s3_endpoint}", key: "${{LAKE_KEY}}", secret: "${{LAKE_SECRET}}"}}
""",
            encoding="utf-8",
        )
        return load_settings(path)

    return make
