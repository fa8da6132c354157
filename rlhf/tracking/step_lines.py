"""JSON lines, one object a line, each with its `step`: append-only, survives a kill, continues after a resume."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.errors import DataError, RunError

MOST_WAITING = 10_000
"""Lines that may wait for room on the disk."""

log = logging.getLogger(__name__)


class StepLines:
    """An append-only file of JSON lines.

    Opening it for a run whose next step is `first_step` removes the lines at and after that step, which an
    interrupted run logged but whose checkpoint it lost, together with a last line that was cut. The file is closed
    between lines: nothing waits in a buffer, and nothing has to be closed at the end.

    On a disk that is full, lines wait in memory until there is room, and no half line is left behind.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        self.kept = [row for row in read_step_lines(path) if row["step"] < first_step] if path.exists() else []
        """Rows of earlier steps that stay in the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _rewrite(path, self.kept)
        self._path = path
        self._waiting: list[bytes] = []

    def append(self, row: Mapping[str, Any]) -> None:
        """Raises `RunError` once `MOST_WAITING` lines could not be written."""
        self._waiting.append(_line(row))
        try:
            self._write()
        except OSError as error:
            if len(self._waiting) == 1:
                log.warning("%s cannot be written (%s); its lines wait in memory for room", self._path, error)
            if len(self._waiting) >= MOST_WAITING:
                raise RunError(f"{self._path}: {MOST_WAITING} lines could not be written: {error}") from error

    def _write(self) -> None:
        size = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("ab") as file:
                file.writelines(self._waiting)
        except OSError:
            if self._path.exists():
                os.truncate(self._path, size)  # what follows must begin a line of its own
            raise
        self._waiting.clear()


def read_step_lines(path: Path) -> list[dict[str, Any]]:
    """Rows in file order; a cut last line, as a kill leaves it, is left out.

    Raises `DataError` with file and line number where any other line is not a JSON object with a `step`.
    """
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise DataError(f"{path}:{number}: not a JSON object with a `step`; the file was edited or damaged here.")
    return rows


def finite(value: float | None) -> float | None:
    """The number, or None where JSON has no word for it (NaN, infinities)."""
    return None if value is None or not math.isfinite(value) else float(value)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _line(row: Mapping[str, Any]) -> bytes:
    # Completions may hold lone surrogates; backslashreplace writes them as the JSON escape they are.
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def _rewrite(path: Path, rows: list[dict[str, Any]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.writelines(_line(row) for row in rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
