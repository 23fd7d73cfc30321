"""A folder or static site that holds every delivered pack and the index of them."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from analytics.settings import FolderDelivery, Settings
from reports.delivery.outcome import Refused, Unreached
from reports.manifest import read_manifest
from reports.shelf import write_shelf


def copy(settings: Settings, delivery: FolderDelivery, folder: Path, pack_id: str) -> str:
    """Copy a pack by one rename and write the index anew; the same pack is left as it is.

    Raises Refused when another pack has its name, and Unreached when the folder cannot be written.
    """
    target = delivery.path / folder.name
    work = delivery.path / f".incoming-{uuid.uuid4().hex}"
    try:
        delivery.path.mkdir(parents=True, exist_ok=True)
        if target.exists():
            _, there = read_manifest(target)
            if there != pack_id:
                raise Refused(f"{target} holds another pack ({there[:16]}), and packs are never overwritten")
            words = f"was there already: {target}"
        else:
            shutil.copytree(folder, work, symlinks=True)
            work.rename(target)
            words = f"copied to {target}"
        write_shelf(settings, delivery.path)
    except OSError as error:
        raise Unreached(f"{delivery.path}: {error.strerror or type(error).__name__}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return words
