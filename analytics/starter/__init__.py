"""What `quarterdeck init` lays down: commented settings and a commented catalog that load as they are."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from analytics.errors import QuarterdeckError

STARTER_FILES = ("quarterdeck.yaml", "catalog.yaml")


class StarterError(QuarterdeckError):
    """The starting files cannot be written where they were asked for."""


def write_starter(target: Path) -> list[Path]:
    """Write the starting files and an empty `feeds` folder into a folder, and return what was made.

    Nothing is overwritten: when one of the files is there already, none is written and StarterError says which.
    """
    taken = [target / name for name in STARTER_FILES if (target / name).exists()]
    if taken:
        raise StarterError(
            "is there already; nothing was written",
            where=", ".join(map(str, taken)),
            fix="Name another folder, or move the file away first.",
        )
    made: list[Path] = []
    try:
        feeds = target / "feeds"
        feeds.mkdir(parents=True, exist_ok=True)
        for name in STARTER_FILES:
            # "x" refuses a file that appeared since the look above.
            with (target / name).open("x", encoding="utf-8") as file:
                file.write(files(__name__).joinpath(name).read_text(encoding="utf-8"))
            made.append(target / name)
    except OSError as error:
        raise StarterError(
            f"cannot be written ({error.strerror})", where=str(error.filename or target), fix="Name a writable folder."
        ) from error
    return [*made, feeds]
