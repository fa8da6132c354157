"""summary.json: the final figures of a run, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.errors import DataError
from rlhf.tracking.step_lines import finite

SUMMARY_NAME = "summary.json"


def write_summary(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write `folder/summary.json` with sorted keys; NaN and infinities become null.

    A reader sees the old file or the new one: the text goes to a temporary file, is forced to disk and renamed.
    """
    path = folder / SUMMARY_NAME
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(_plain(summary), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return path


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run folder. Raises `DataError` where there is none or it is not JSON."""
    path = folder / SUMMARY_NAME
    if not path.is_file():
        raise DataError(f"{path} does not exist: {folder} is no run folder, or its run has not finished.")
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run again or restore the file.") from error
    if not isinstance(summary, dict):
        raise DataError(f"{path} holds {type(summary).__name__}, not an object; run again or restore the file.")
    return summary


def _plain(value: Any) -> Any:
    """The value in JSON's own types; an unknown type is left for `json.dumps` to refuse."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return finite(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
