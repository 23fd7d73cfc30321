"""Optional programs and libraries: a browser that draws charts, and the ones that set text in a printed pack."""

from __future__ import annotations

import ctypes.util
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
