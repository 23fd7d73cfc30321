"""The real bundles and SBOMs beside the repository, with what is expected of each."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "supply-chain"
needs_manifest = pytest.mark.skipif(
    not (FOLDER / "manifest.json").exists(), reason="the real bundles and SBOMs are not beside this repository"
)

# The manifest's older names for verdicts of supply-chain.md section 1.
_RENAMED = {
    "INVALID_IDENTITY": {"FORGED_CLAIMS"},
    "UNSUPPORTED_LOG_ENTRY_TYPE": {"UNSUPPORTED_LOG_ENTRY"},
    "INVALID_LOG_ENTRY": {"INVALID_LOG"},
    "INVALID": {"INVALID_SIGNATURE", "INVALID_LOG", "INVALID_CERT", "INVALID_TIME", "INVALID_SUBJECT"},
    "SPDX_UNJUDGED": {"SCHEMA_VALID", "SCHEMA_INVALID"},
}


def items(*kinds: str) -> list[dict[str, Any]]:
    """The manifest's items of some kinds; none where the folder is absent."""
    path = FOLDER / "manifest.json"
    if not path.exists():
        return []
    return [one for one in json.loads(path.read_text(encoding="utf-8"))["items"] if one["kind"] in kinds]


def accepted(item: dict[str, Any]) -> set[str]:
    """The verdicts that agree with the one the manifest expects."""
    expected = item["expected_verdict"]
    if expected == "UNSUPPORTED_LOG_ENTRY_TYPE" and not item["log_entry"]:
        return {"UNSUPPORTED_NOT_A_BUNDLE"}  # a bare envelope, whose log entry nobody has
    return _RENAMED.get(expected, {expected})


def real(*parts: str) -> Path:
    """A real file by its place in the folder."""
    return FOLDER.joinpath(*parts)
