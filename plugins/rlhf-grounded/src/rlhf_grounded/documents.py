"""The user's documents, read into passages, and whether they have changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlhf.errors import ConfigError, DataError, nearest
from rlhf_grounded.evidence import Passage
from rlhf_grounded.passages import cut

SUFFIXES = (".jsonl", ".md", ".txt")
Stamp = tuple[tuple[str, int, int], ...]
"""Path, size and time of change of every file."""


def files_of(paths: Sequence[str]) -> list[Path]:
    """The files that paths stand for, sorted within each; hidden ones are left out."""
    found: list[Path] = []
    for path in paths:
        place = Path(path).expanduser()
        if place.is_dir():
            inside = sorted(file for file in place.rglob("*") if file.suffix in SUFFIXES and _is_shown(file, place))
            if not inside:
                raise ConfigError(f"grounded: documents: no {', '.join(SUFFIXES)} files in folder {path!r}.")
            found.extend(inside)
        elif place.suffix not in SUFFIXES and place.exists():
            raise ConfigError(f"grounded: documents: {path!r} is not one of {', '.join(SUFFIXES)}; convert it to text.")
        elif not place.is_file():
            siblings = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
            raise ConfigError(f"grounded: documents: no file or folder {path!r}.{nearest(place.name, siblings)}")
        else:
            found.append(place)
    return list(dict.fromkeys(found))


def stamp_of(files: Sequence[Path]) -> Stamp:
    """What changes when a file does; a file that has gone has size -1."""
    return tuple((str(file), *_size_and_time(file)) for file in files)


def passages_of(files: Sequence[Path], longest: int) -> list[Passage]:
    """All passages, none above `longest` words; `DataError` for a file that cannot be read, or where all are empty."""
    found = [passage for file in files for passage in _of_file(file, longest)]
    if not found:
        raise DataError(f"grounded: documents: no text in {', '.join(map(str, files[:3]))}.")
    return found


def _of_file(file: Path, longest: int) -> Iterator[Passage]:
    text = _read(file)
    if file.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                body, source = _row(line, f"{file}:{number}")
                yield from cut(body, source, longest)
    else:
        yield from cut(text, str(file), longest)


def _row(line: str, where: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"grounded: {where}: not JSON: {error}.") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        keys = f" It has {', '.join(map(str, row))}." if isinstance(row, dict) else ""
        raise DataError(f"grounded: {where}: wants an object with a text under `text`.{keys}")
    return row["text"], str(row.get("source") or where)


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"grounded: {file} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"grounded: {file} cannot be read: {error.strerror}.") from None


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except FileNotFoundError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _is_shown(file: Path, root: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)
