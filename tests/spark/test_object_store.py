"""The whole sample with its lake in an object store: every stage, the same values, and every table read by Spark."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import s3fs
from click.testing import CliRunner

from analytics.engine import connect
from analytics.lake.frames import polars_frame, spark_frame
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation
from analytics.metrics.measure import measure
from analytics.settings import Settings
from tests.fakes.s3 import KEY, SECRET, s3, s3_endpoint, s3_settings
from tests.spark.conftest import differences, on_spark

__all__ = ["s3", "s3_endpoint", "s3_settings"]
