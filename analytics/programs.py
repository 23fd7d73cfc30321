"""Optional programs and libraries: a browser that draws charts, those that set text in a printed pack, and Spark's."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_FIX = "Install chromium (Debian: apt-get install chromium), or name a browser in BROWSER_PATH."
# Of each library, as the system's loader knows it; WeasyPrint loads the first two and subsets fonts with the last.
PRINT_LIBRARIES = ("pango-1.0", "pangoft2-1.0", "harfbuzz-subset")
PRINT_FIX = (
    "Install Pango and HarfBuzz (Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0; "
    "macOS: brew install pango)."
)


def find_browser(which: Callable[[str], str | None] = shutil.which) -> str | None:
    """The browser that draws charts as pictures: the one BROWSER_PATH names, else the first known one."""
    named = os.environ.get("BROWSER_PATH")
    if named and Path(named).is_file():
        return named
    return next((path for path in map(which, BROWSERS) if path), None)


def missing_print_libraries(find: Callable[[str], str | None] = ctypes.util.find_library) -> list[str]:
    """Libraries without which no PDF can be made."""
    return [name for name in PRINT_LIBRARIES if find(name) is None]


SPARK_FIX = 'Install it (`pip install ".[spark]"`), or use the engine duckdb.'
CONNECT_FIX = 'Install what Spark Connect needs (`pip install ".[spark-connect]"`).'
JAVA_FIX = (
    "Install Java 17 (Debian: apt-get install openjdk-17-jre-headless), or name a Spark Connect server as `remote`."
)


def missing_for_spark(
    remote: str | None,
    find: Callable[[str], object | None] = importlib.util.find_spec,
    which: Callable[[str], str | None] = shutil.which,
) -> tuple[str, str] | None:
    """What the engine spark lacks on this machine and how to get it; None where nothing is missing."""
    if find("pyspark") is None or find("pyarrow") is None:
        return "PySpark is not installed", SPARK_FIX
    if remote is not None and remote.startswith("sc://"):
        if find("grpc") is None or find("pandas") is None:
            return "what Spark Connect needs is not installed", CONNECT_FIX
        return None
    java_home = os.environ.get("JAVA_HOME")
    if which("java") is None and not (java_home and (Path(java_home) / "bin" / "java").is_file()):
        return "there is no Java", JAVA_FIX
    return None
