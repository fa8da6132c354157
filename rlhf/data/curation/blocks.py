"""A file of JSON lines as blocks of whole lines: what is worked on apart, in any order, and not again when resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf.errors import DataError

BLOCK_BYTES = 4 * 2**20
"""A block of this size costs a worker about 60 MB: its lines, the objects they become, and what is written of them."""
_LONGEST_LINE = 256 * 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole lines of a file: bytes `start` to `end`, of which the first is line `first_line`."""

    number: int
    start: int
    end: int
    first_line: int
    num_lines: int
    digest: str
    """BLAKE2b of the bytes."""


@dataclass(frozen=True)
class Line:
    """One line that is not blank: its number in the file, where it starts, and its bytes without the line's end."""

    number: int
    start: int
    raw: bytes


@dataclass(frozen=True)
class Snapshot:
    """A file as it was when the work began."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Snapshot:
        """Raises `DataError` where there is no such file."""
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        return cls(str(path), stat.st_size, stat.st_mtime_ns)

    def require_unchanged(self) -> None:
        """Raise `DataError` where the file has another size or time of change by now."""
        if Snapshot.of(Path(self.path)) != self:
            raise _changed(self.path)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_blocks(path: Path, block_bytes: int = BLOCK_BYTES, max_lines: int | None = None) -> Iterator[Block]:
    """The blocks of a file in order: of about `block_bytes`, and of at most `max_lines` lines.

    Raises `DataError` for a file that is empty, or has a line too long to be held.
    """
    number, start, line = 0, 0, 1
    for piece in _pieces(path, block_bytes):
        for part in [piece] if max_lines is None else _parts(piece, max_lines):
            num_lines = part.count(b"\n") + (not part.endswith(b"\n"))
            yield Block(number, start, start + len(part), line, num_lines, _digest(part))
            number, start, line = number + 1, start + len(part), line + num_lines
    if not start:
        raise DataError(f"{path} is empty.")


def read_block(path: Path, block: Block) -> list[Line]:
    """The lines of a block. Raises `DataError` where its bytes are no longer those that were planned."""
    with path.open("rb") as file:
        file.seek(block.start)
        raw = file.read(block.end - block.start)
    if _digest(raw) != block.digest:
        raise _changed(path)
    lines, start = [], block.start
    for number, line in enumerate(raw.split(b"\n"), start=block.first_line):
        if line.strip():
            lines.append(Line(number, start, line.removeprefix(_BOM) if start == 0 else line))
        start += len(line) + 1
    return lines


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """Pieces that end with a line, of about this size."""
    try:
        with path.open("rb") as file:
            rest: list[bytes] = []
            while chunk := file.read(size):
                cut = chunk.rfind(b"\n") + 1
                if cut:
                    yield b"".join([*rest, chunk[:cut]])
                    rest = []
                rest.append(chunk[cut:])
                if sum(map(len, rest)) > _LONGEST_LINE:
                    raise DataError(f"{path} has a line of more than {_LONGEST_LINE >> 20} MiB: is it JSON lines?")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    last = b"".join(rest)
    if last:
        yield last


def _parts(piece: bytes, max_lines: int) -> Iterator[bytes]:
    lines = piece.splitlines(keepends=True) if b"\r" not in piece else [x + b"\n" for x in piece.split(b"\n")]
    if b"\r" in piece:  # bytes.splitlines() would part lines at a lone carriage return too
        lines[-1] = lines[-1][:-1]
        lines = [line for line in lines if line]
    for first in range(0, len(lines), max_lines):
        yield b"".join(lines[first : first + max_lines])


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _changed(path: Path | str) -> DataError:
    return DataError(f"{path} changed while it was read: wait until it is written, then begin anew without --resume.")
