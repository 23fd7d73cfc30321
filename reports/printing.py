"""Printed editions: tagged PDF (PDF/UA) from the same templates, the same bytes each time.

Needs Pango and HarfBuzz of the system; without them a pack is made without PDF and says so. Source: reports.md
sections 1 (item 22) and 3.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from analytics.errors import PackError
from analytics.programs import PRINT_FIX, missing_print_libraries

_STYLE = Path(__file__).parent / "printed" / "print.css"


class PrintingError(PackError):
    """A PDF cannot be made."""


def print_pdf(html: str) -> bytes:
    """A page as PDF; nothing is fetched for it, and it carries no clock and no random id.

    Raises PrintingError where the libraries are missing or the page cannot be set.
    """
    missing = missing_print_libraries()
    if missing:
        raise PrintingError(f"no PDF can be made without {', '.join(missing)}", fix=PRINT_FIX)
    try:
        # Imported here: it loads Pango.
        import weasyprint
    except OSError as error:
        first = (str(error).splitlines() or [""])[0][:300]
        raise PrintingError(f"no PDF can be made: {first}", fix=PRINT_FIX) from error
    for name in ("weasyprint", "fontTools"):
        # They warn of CSS that only screens use, and of fonts' tables.
        logging.getLogger(name).setLevel(logging.ERROR)
    # A printed page is whole in itself: whatever it asks for is refused.
    nothing = weasyprint.urls.URLFetcher(allowed_protocols=(), allow_redirects=False)
    document: Any = weasyprint.HTML(string=html, url_fetcher=nothing)
    try:
        written: bytes = document.write_pdf(
            stylesheets=[weasyprint.CSS(string=_STYLE.read_text(encoding="utf-8"))],
            pdf_variant="pdf/ua-1",
            pdf_identifier=hashlib.sha256(html.encode()).digest()[:16],
            custom_metadata=False,
        )
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise PrintingError(f"the page cannot be printed: {first}") from error
    return written
