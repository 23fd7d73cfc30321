"""Which lake the settings mean: one in a folder, or one in an object store."""

from __future__ import annotations

from analytics.lake.folders import FolderLake
from analytics.lake.manifests import ObjectLake
from analytics.lake.port import Lake
from analytics.object_store import open_store
from analytics.settings import Settings


def lake_of(settings: Settings) -> Lake:
    """The lake of the settings; raises LakeError where its object store cannot be opened."""
    if settings.lake_url is None:
        return FolderLake(settings)
    return ObjectLake(open_store(settings.lake_url, settings.stored.options))
