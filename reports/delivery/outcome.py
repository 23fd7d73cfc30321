"""How an attempt to deliver can end other than well."""

from __future__ import annotations


class Unreached(Exception):  # noqa: N818 - an outcome, told to nobody as an error
    """It did not arrive, and the next attempt may do better."""


class Refused(Exception):  # noqa: N818 - an outcome, told to nobody as an error
    """It did not arrive, and trying again will not help."""


class Unknown(Exception):  # noqa: N818 - an outcome, told to nobody as an error
    """It may have arrived: trying again might bring it twice."""
