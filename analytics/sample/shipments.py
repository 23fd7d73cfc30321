"""What reached production: the image, the commit it was built of, and what its tools know of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shipment:
    """One successful deployment of an image; times are whole seconds since 1970."""

    service: str
    # How the deployment is found again: its key, and the id of its record where it has one.
    key: str
    deployment_id: str | int | None
    image: str
    # Whether anybody wrote down which commit the image was built of.
    image_is_known: bool
    sha: str
    ref: str
    # The run of the deploy workflow, which built it; None where continuous integration did.
    run_id: int | None
    # The tag or release that it is.
    release: str | None
    # Whether its pipeline was a standard template by then.
    templated: bool
    created: int
    finished: int
    creator: str
    # People who wrote what it shipped first.
    authors: frozenset[str | None]
