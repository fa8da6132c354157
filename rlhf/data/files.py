"""Rows out of local files (.jsonl, .json, .csv, .parquet, .txt) and hub data sets, each with where it came from."""

from __future__ import annotations

import csv
import glob
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf.data.turns import Fault
from rlhf.errors import DataError, nearest

Documents = Literal["blank", "lines", "file"]
Numbered = tuple[int, dict[str, Any] | Fault]
"""A row's number in its file, from 1, and its columns, or why it has none."""
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class SourceRow:
    """One row as read: its columns, an id that is stable while the file is, and the place an error names."""

    values: dict[str, Any]
    id: str
    where: str
    fault: str = ""
    """Why it could not be read, where it could not while the rows around it can; it has no columns then."""


@dataclass(frozen=True)
class HubOptions:
    """What only hub data sets have."""

    split: str = "train"
    config: str | None = None
    revision: str | None = None


def read_rows(
    paths: Sequence[str], documents: Documents = "blank", hub: HubOptions | None = None
) -> Iterator[SourceRow]:
    """Rows of all the files in order. A path may be a file, a folder, a glob, `hub:org/name` or `org/name`.

    Raises:
        DataError: missing or empty file, unknown suffix, malformed row or text that is not UTF-8, with the place.
    """
    for row in read_rows_and_faults(paths, documents, hub):
        if row.fault:
            raise DataError(f"{row.where}: {row.fault}.")
        yield row


def read_rows_and_faults(
    paths: Sequence[str], documents: Documents = "blank", hub: HubOptions | None = None
) -> Iterator[SourceRow]:
    """The same, where a row that cannot be read by itself comes as one with a `fault`.

    Raises:
        DataError: what is wrong with a whole file.
    """
    sources = [source for path in paths for source in sources_at(path)]
    for number, source in enumerate(sources):
        name = source.name if isinstance(source, Path) else source
        # Two folders may hold files of one name; ids must still differ, and must not depend on where the folders lie.
        prefix = f"{number}/{name}" if len(sources) > 1 else name
        rows = _read_file(source, documents) if isinstance(source, Path) else _read_hub(source, hub or HubOptions())
        unit = "line" if isinstance(source, Path) and source.suffix == ".jsonl" else "row"
        empty = True
        for number_in_file, values in rows:
            empty = False
            row_id, where = f"{prefix}:{number_in_file}", f"{source}, {unit} {number_in_file}"
            if isinstance(values, Fault):
                yield SourceRow({}, row_id, where, fault=str(values))
            else:
                yield SourceRow(values, row_id, where)
        if empty:
            raise DataError(f"{source} has no rows. Check that it was written completely.")


def sources_at(path: str) -> list[Path | str]:
    """The files a path stands for, sorted; a string is a hub name. Raises `DataError` where it stands for nothing."""
    if path.startswith("hub:"):
        return [path.removeprefix("hub:")]
    local = Path(path).expanduser()
    if local.is_file():
        return [local]
    if local.is_dir():
        found = sorted(file for file in local.iterdir() if file.suffix in SUFFIXES)
        if not found:
            raise DataError(f"no data files in folder {path}: looked for {', '.join(SUFFIXES)}.")
        return list(found)
    if glob.has_magic(path):
        root = Path(local.anchor)
        matches = sorted(match for match in root.glob(str(local.relative_to(root))) if match.is_file())
        if not matches:
            raise DataError(f"no file matches {path!r}.")
        return list(matches)
    if _HUB_NAME.fullmatch(path) and local.suffix not in SUFFIXES and not local.parent.is_dir():
        return [path]
    siblings = [file.name for file in local.parent.iterdir()] if local.parent.is_dir() else []
    raise DataError(f"no file {path}.{nearest(local.name, siblings)} For a hub data set write hub:org/name.")


def _read_file(path: Path, documents: Documents) -> Iterator[Numbered]:
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".jsonl":
        return _json_lines(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} has an unknown suffix {path.suffix!r}: known are {', '.join(SUFFIXES)}.")
    # Only `.json` is read as a whole; the others are larger than memory now and then.
    if path.suffix == ".txt":
        return _documents(_lines(path), documents)
    if path.suffix == ".csv":
        return _csv(path, _lines(path))
    return _json(path, "".join(_lines(path)))


def _lines(path: Path) -> Iterator[str]:
    """The lines, with their ends, of a text file in UTF-8, with or without a byte-order mark."""
    offset, is_empty = 0, True
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                # Offsets of the exception do not count the byte-order mark.
                start = offset + error.start + (len(BOM_UTF8) if number == 1 and raw.startswith(BOM_UTF8) else 0)
                raise DataError(
                    f"{path} is not UTF-8: byte {raw[start - offset]:#04x} at offset {start} (line {number}). "
                    "Convert it to UTF-8."
                ) from None
            offset += len(raw)
            is_empty &= not line.strip()
            yield line.replace("\r\n", "\n")
    if is_empty:
        raise DataError(f"{path} is empty.")


def _json_lines(path: Path) -> Iterator[Numbered]:
    """Line by line, so that one that was cut or is of another encoding is the fault of no other."""
    is_empty = True
    with path.open("rb") as file:  # in bytes: JSON strings may hold U+2028 and the like, which are no line ends here
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                raise DataError(f"{path} is UTF-16, not UTF-8. Convert it to UTF-8.")
            content = line.removeprefix(BOM_UTF8) if number == 1 else line
            if content.strip():
                is_empty = False
                yield number, json_object(content.rstrip())
    if is_empty:
        raise DataError(f"{path} is empty.")


def json_object(line: bytes) -> dict[str, Any] | Fault:
    """What a line of a .jsonl file holds, or what is wrong with it."""
    try:
        return _as_object(json.loads(line.decode("utf-8")))
    except UnicodeDecodeError as error:
        return Fault(f"not UTF-8: byte {line[error.start]:#04x} at its offset {error.start}")
    except json.JSONDecodeError as error:
        return Fault(f"not valid JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists within lists within lists
        return Fault(f"not JSON that can be read: {str(error).split(';')[0]}")


def _as_object(value: Any) -> dict[str, Any] | Fault:
    if not isinstance(value, dict):
        return Fault(f"expected an object with named columns, found {type(value).__name__}")
    return value


def _json(path: Path, text: str) -> Iterator[Numbered]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        # Many `.json` files hold one object a line; where the first line stands alone as one, read them so.
        if error.msg == "Extra data":
            yield from _json_lines(path)
            return
        raise DataError(f"{path}, line {error.lineno}: not valid JSON: {error.msg} at column {error.colno}.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON that can be read: {str(error).split(';')[0]}.") from None
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, start=1):
        yield number, _as_object(row)


def _csv(path: Path, lines: Iterable[str]) -> Iterator[Numbered]:
    reader = csv.DictReader(lines, strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                header = len(reader.fieldnames or ())
                yield number, Fault(f"line {reader.line_num} has not the {header} fields of the header row")
            else:
                yield number, dict(row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV: {error}.") from None


def _parquet(path: Path) -> Iterator[Numbered]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _documents(lines: Iterable[str], documents: Documents) -> Iterator[Numbered]:
    """Texts of a .txt file; the number is that of the document."""
    if documents == "file":
        pieces = iter(["".join(lines)])
    elif documents == "lines":
        pieces = iter(lines)
    else:
        pieces = _between_blank_lines(lines)
    kept = (piece.strip("\n") for piece in pieces if piece.strip())
    for number, piece in enumerate(kept, start=1):
        yield number, {"text": piece}


def _between_blank_lines(lines: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield "".join(held)
            held = []
    yield "".join(held)


def _read_hub(name: str, options: HubOptions) -> Iterator[Numbered]:
    try:
        import datasets
    except ImportError:
        raise DataError(f"hub data set {name!r} needs the package `datasets`: pip install 'rlhf[data]'.") from None
    try:
        rows = datasets.load_dataset(name, options.config, split=options.split, revision=options.revision)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"hub data set {name!r} (split {options.split!r}) could not be loaded: {reason}") from None
    for number, row in enumerate(rows, start=1):
        yield number, dict(row)
