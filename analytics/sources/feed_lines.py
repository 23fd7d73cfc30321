"""Lines of a feed file, read so that a line of any length costs a bounded amount of memory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

MAX_LINE_BYTES = 8 * 1024 * 1024
EXCERPT_BYTES = 2048
_PIECE_BYTES = 256 * 1024


class ByteLines(Protocol):
    """A binary stream that gives its next line, or the beginning of one that is longer than asked for."""

    def readline(self, size: int, /) -> bytes:
        """Up to `size` bytes, ending behind the next newline; empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line over the cap, of which only the beginning was kept."""

    excerpt: bytes
    size_bytes: int
    sha256: str
    ended: bool


def ignore_piece(piece: bytes) -> None:
    """Nobody follows the pieces of long lines."""


def bounded_lines(
    stream: ByteLines, size: int | None = None, on_piece: Callable[[bytes], object] = ignore_piece
) -> Iterator[bytes | LongLine]:
    """Lines with their newline, in order, up to `size` bytes of the stream; the last one may lack its newline.

    A line over 8 MiB is read in pieces, each handed to `on_piece` and dropped, and comes out as a LongLine.
    """
    remaining = size if size is not None else sys.maxsize
    readline = stream.readline
    # One byte more than the cap tells a line of exactly the cap from a longer one.
    asked = MAX_LINE_BYTES + 1
    while remaining > 0:
        if remaining < asked:
            asked = remaining
        line = readline(asked)
        length = len(line)
        if not length:
            return
        remaining -= length
        if length <= MAX_LINE_BYTES or line[-1] == 0x0A:
            yield line
            continue
        excerpt, digest = line[:EXCERPT_BYTES], hashlib.sha256(line)
        on_piece(line)
        ended = False
        while not ended and remaining > 0:
            piece = readline(min(_PIECE_BYTES, remaining))
            if not piece:
                break
            remaining -= len(piece)
            length += len(piece)
            digest.update(piece)
            on_piece(piece)
            ended = piece[-1] == 0x0A
        yield LongLine(excerpt, length, digest.hexdigest(), ended)
