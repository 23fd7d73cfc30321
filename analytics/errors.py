"""Errors a person can act on: what is wrong, where, and what to do.

One class per boundary. The command line prints ``str(error)`` and exits with ``exit_code``; a traceback is
shown only with ``--debug``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path


class QuarterdeckError(Exception):
    """Base of every error that is meant for a reader rather than for a debugger."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.fix}" if self.fix else text


class UsageError(QuarterdeckError):
    """The words on the command line are wrong."""

    exit_code = 2


class SettingsError(QuarterdeckError):
    """The settings or the catalog are wrong; carries file, line and key."""

    exit_code = 2

    @classmethod
    def at(cls, path: Path, line: int | None, what: str, fix: str | None = None) -> SettingsError:
        """An error at a line of a file."""
        where = f"{path}:{line}" if line else str(path)
        return cls(what, where=where, fix=fix)


class SourceError(QuarterdeckError):
    """A source as a whole cannot be read (a folder that is missing, a clone that is no repository)."""


class UnreachableError(SourceError):
    """A source does not answer at all; asking it for anything else is no use now."""


class PausedError(SourceError):
    """A source asked for a pause until `resume_at` (UTC); what was landed stays and the next pull goes on."""

    def __init__(self, what: str, resume_at: datetime, *, where: str | None = None) -> None:
        self.resume_at = resume_at.astimezone(UTC)
        when = self.resume_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        super().__init__(what, where=where, fix=f"Run `quarterdeck pull` again after {when}: it goes on from here.")


class LandingError(QuarterdeckError):
    """The landing store cannot be opened or written."""


class FileInUseError(LandingError):
    """Another process, or this one, holds a landing file; the message says which."""


class LakeError(QuarterdeckError):
    """The lake or the published database is missing, unreadable or from another version."""


class EngineError(QuarterdeckError):
    """The engine that the settings name cannot be had, or a query failed on it."""


class PackError(QuarterdeckError):
    """A report pack cannot be made or does not verify."""
