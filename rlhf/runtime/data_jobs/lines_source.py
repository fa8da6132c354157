"""The file a job reads, as lines of JSON: itself, or a copy in the job's folder where it is of another kind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.data.curation.blocks import BLOCK_BYTES, Block, plan_blocks, read_block
from rlhf.data.curation.row_view import LineReader
from rlhf.data.files import SUFFIXES, read_rows
from rlhf.errors import DataError, nearest
from rlhf.runtime.data_jobs.job_folder import JobFolder


@dataclass(frozen=True)
class RowFormat:
    """How rows are to be read: the format by name, or None to tell it from the first; ours -> theirs columns."""

    name: str | None = None
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class LinesSource:
    """Lines of JSON with the format of their rows; plain data, which goes to a worker as it is."""

    path: Path
    name: str
    row_format: str
    columns: tuple[tuple[str, str], ...] = ()

    def reader(self) -> LineReader:
        """Reads its lines as rows."""
        return LineReader(self.name, self.row_format, dict(self.columns))


def require_file(file: Path) -> Path:
    """The absolute path of a file of rows. Raises `DataError` where there is none, or its kind is unknown."""
    if not file.is_file():
        siblings = [path.name for path in file.absolute().parent.iterdir()] if file.absolute().parent.is_dir() else []
        raise DataError(f"no file {file}.{nearest(file.name, siblings)}")
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file} has an unknown suffix {file.suffix!r}: known are {', '.join(SUFFIXES)}.")
    return file.absolute()


def open_source(
    file: Path, given: RowFormat, folder: JobFolder, *, block_bytes: int = BLOCK_BYTES, max_lines: int | None = None
) -> tuple[LinesSource, list[Block]]:
    """The source and its blocks. Raises `DataError` for a file that cannot be read, or is of no known format."""
    lines = file if file.suffix == ".jsonl" else _copy(file, folder)
    blocks = folder.blocks(plan_blocks(lines, block_bytes, max_lines))
    found = _format(lines, file, given, blocks)
    return LinesSource(lines, file.name, found, given.columns), blocks


def _copy(file: Path, folder: JobFolder) -> Path:
    """Row by row; line N is row N."""
    lines = folder.path / "source.jsonl"
    if not lines.exists():
        scratch = lines.with_suffix(".tmp")
        with scratch.open("w", encoding="utf-8", errors="backslashreplace") as out:
            for row in read_rows([str(file)]):
                out.write(json.dumps(_plain(row.values), ensure_ascii=False, default=str) + "\n")
        scratch.replace(lines)
    return lines


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN, which Parquet and CSV may hold and JSON has no word for, is a null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _format(lines: Path, file: Path, given: RowFormat, blocks: list[Block]) -> str:
    """The format of the first line that is an object; without one, whatever is wrong with the first."""
    first: DataError | None = None
    reader = LineReader(file.name, given.name, dict(given.columns))
    for block in blocks:
        for line in read_block(lines, block):
            try:
                found = reader.with_format_of(line.number, line.raw).format
            except DataError as error:
                first = first or error
                if "not valid JSON" in str(error) or "not UTF-8" in str(error):
                    continue
                raise
            assert found is not None
            return found.name
    raise first or DataError(f"{file} has no rows. Check that it was written completely.")
