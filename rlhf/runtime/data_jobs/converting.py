"""`rlhf data convert`: rows of one format into another, as JSON lines or Parquet."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlhf.data.curation.blocks import Block, read_block
from rlhf.data.curation.writing import require_writable, write_record
from rlhf.data.turns import Fault
from rlhf.errors import ConfigError, DataError
from rlhf.runtime.data_jobs.block_runs import Place, at_work, run_blocks
from rlhf.runtime.data_jobs.job_folder import JobFolder, block_file, join_files
from rlhf.runtime.data_jobs.lines_source import LinesSource, RowFormat, open_source, require_file

_KINDS_OF_FILE = (".jsonl", ".parquet")


@dataclass(frozen=True)
class ConvertWork:
    """Writes each block in the new format."""

    source: LinesSource
    folder: Path
    to: str
    skip_bad_rows: bool
    is_parquet: bool
    stage: str = "convert"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        reader = self.source.reader()

        def process(block: Block) -> dict[str, Any]:
            rows: list[dict[str, Any]] = []
            faults: list[str] = []
            for line in read_block(self.source.path, block):
                try:
                    view = reader.read(line.number, line.raw)
                    keeps = self.to == self.source.row_format
                    rows.append(dict(view.values) if keeps else write_record(self.to, view.record))
                except Fault as fault:
                    where = f"{self.source.name}, line {line.number}: {fault}"
                    if not self.skip_bad_rows:
                        raise DataError(f"{where}. Mend the row, or leave such out with --skip-bad-rows.") from None
                    faults.append(where)
            with block_file(self.folder, "converted", block.number, ".jsonl").open("wb") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            told: dict[str, Any] = {"written": len(rows), "skipped": len(faults), "first_fault": "".join(faults[:1])}
            return told | ({"schema": _schema_of(rows, block)} if self.is_parquet and rows else {})

        return process


@dataclass(frozen=True)
class Converted:
    """What came of it."""

    out: Path
    from_format: str
    to_format: str
    written: int
    skipped: int
    first_fault: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"out": str(self.out)}


def convert(
    file: Path,
    out: Path,
    to: str | None,
    row_format: RowFormat,
    place: Place,
    *,
    skip_bad_rows: bool = False,
    resume: bool = False,
) -> Converted:
    """Write the rows of a file anew. Raises `DataError` for a row that cannot be, unless such are to be skipped."""
    path = require_file(file)
    if out.suffix not in _KINDS_OF_FILE:
        raise ConfigError(f"--out {out}: give a file that ends in {' or '.join(_KINDS_OF_FILE)}")
    if to is not None:
        require_writable(to)
    settings = {"to": to, "skip_bad_rows": skip_bad_rows, "row_format": asdict(row_format)}
    folder = JobFolder(out.absolute(), settings, [path], resume=resume)
    source, blocks = open_source(path, row_format, folder)
    name = to or source.row_format
    work = ConvertWork(source, folder.path, name, skip_bad_rows, out.suffix == ".parquet")
    with at_work(place):
        summaries = list(run_blocks(work, blocks, folder, place))
    written, skipped = (sum(summary[name] for summary in summaries) for name in ("written", "skipped"))
    first = next((summary["first_fault"] for summary in summaries if summary["first_fault"]), "")
    if not written:
        raise DataError(f"{file}: none of its {skipped} rows can be written as {name}; the first: {first}.")
    parts = [block_file(folder.path, "converted", block.number, ".jsonl") for block in blocks]
    if out.suffix == ".parquet":
        _write_parquet(parts, [s["schema"] for s in summaries if "schema" in s], folder.out)
    else:
        join_files(parts, folder.out)
    folder.remove()
    return Converted(out, source.row_format, name, written, skipped, first)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _schema_of(rows: Sequence[dict[str, Any]], block: Block) -> str:
    try:
        schema = pa.Table.from_pylist(_with_all_columns(rows)).schema
    except pa.ArrowException as error:
        raise _no_schema(f"lines {block.first_line} to {block.first_line + block.num_lines - 1}", error) from None
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _with_all_columns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Arrow takes its columns from the first row."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def _write_parquet(parts: Iterable[Path], schemas: Sequence[str], out: Path) -> None:
    """All the parts as one file of a schema that suits them all."""
    from pyarrow import parquet

    read = [pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))) for schema in schemas]
    try:
        schema = pa.unify_schemas(read, promote_options="permissive")
    except pa.ArrowException as error:
        raise _no_schema("the file", error) from None
    scratch = out.with_name(f".{out.name}.tmp")
    with parquet.ParquetWriter(scratch, schema) as writer:
        for rows in map(_rows_of, parts):
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    scratch.replace(out)


def _rows_of(part: Path) -> list[dict[str, Any]]:
    return list(_objects(part))


def _objects(part: Path) -> Iterator[dict[str, Any]]:
    with part.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _no_schema(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where}: columns of no one type, which Parquet needs ({str(error).splitlines()[0]}); write .jsonl"
    )
