"""The `files` data set (local files and hub sets) and `rows`, the same for rows written in the recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Literal

from pydantic import Field, field_validator

from rlhf.config import PartConfig
from rlhf.data.bad_rows import BadRows
from rlhf.data.files import Documents, HubOptions, SourceRow, read_rows_and_faults
from rlhf.data.formats import Format, detect, find_format, read_record, rename
from rlhf.data.readers import Record
from rlhf.data.records import Records, Turns, split_held_out
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.types import Demonstration, Message, Prompt

_LOOKED_AT = 64
"""Rows whose columns are tried in turn to tell the format: the first may be one of the bad ones."""

log = logging.getLogger(__name__)


class RowsOptions(PartConfig):
    """What becomes of rows, wherever they come from."""

    format: str | None = None
    """The row format by name (docs/data.md); told from the columns of the first rows where absent."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The format's column -> the data's column, where they differ: `{prompt: question, reference: answer}`."""
    chat: bool = False
    """Treat plain text prompts as one user turn, so that the chat template is applied to them."""
    turns: Turns = "all"
    """Which assistant turns are trained: `all` in one pass, the `last` only, or one sample for `each`."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do about rows with something wrong: stop, naming them; or leave them out, counted in `data/bad_rows`. The
    others come in the order they would have had with them.
    """
    max_bad_rate: float = Field(default=0.5, gt=0, lt=1)
    """With `skip`: the largest share of rows that may be left out."""
    held_out: int = Field(default=0, ge=0)
    """Rows kept from training for evaluation, chosen by the hash of their prompt."""
    max_rows: int | None = Field(default=None, ge=1)
    """Read no more than this many rows, from the first on."""

    @field_validator("format")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                find_format(name)
            except DataError as error:
                raise ValueError(str(error)) from None
        return name


class FilesConfig(RowsOptions):
    """Data in files or on the hub."""

    path: str | tuple[str, ...]
    """A file (.jsonl, .json, .csv, .parquet, .txt), a folder, a glob, a hub name (`org/name`), or several of them."""
    documents: Documents = "blank"
    """What parts the documents of a .txt file: `blank` lines, `lines`, or nothing (`file`)."""
    split: str = "train"
    """Hub only."""
    config: str | None = None
    """Hub only: the name of the data set's configuration."""
    revision: str | None = None
    """Hub only; pin a commit hash for reproducible runs."""


class RowsConfig(RowsOptions):
    """Data written in the recipe itself."""

    rows: tuple[dict[str, Any], ...] = Field(min_length=1)


class FilesDataset(Records):
    """Rows of files, in the row formats of docs/data.md."""

    def __init__(self, config: FilesConfig) -> None:
        paths = (config.path,) if isinstance(config.path, str) else config.path
        hub = HubOptions(config.split, config.config, config.revision)
        name = ", ".join(paths)
        records, bad = _read(name, read_rows_and_faults(paths, config.documents, hub), config)
        kept, held = split_held_out(records, config.held_out, name)
        super().__init__(name, kept, held, config.turns, bad)


class RowsDataset(Records):
    """Rows of the recipe."""

    def __init__(self, config: RowsConfig) -> None:
        source = (SourceRow(row, f"rows:{number}", f"rows[{number}]") for number, row in enumerate(config.rows))
        records, bad = _read("rows", source, config)
        kept, held = split_held_out(records, config.held_out, "rows")
        super().__init__("rows", kept, held, config.turns, bad)


def _read(name: str, source: Iterable[SourceRow], options: RowsOptions) -> tuple[list[Record | None], int]:
    """The records, with None where a row was left out, and how many were."""
    rows = islice(source, options.max_rows)
    first = list(islice(rows, _LOOKED_AT))
    known = find_format(options.format) if options.format else _told_from(first, options)
    records: list[Record | None] = []
    bad = BadRows(name)
    for row in chain(first, rows):
        try:
            record = read_record(known, row.id, _columns(row, options))
        except Fault as fault:
            bad.add(row.where, str(fault))
            records.append(None)
        else:
            records.append(as_chat(record) if options.chat else record)
    bad.refuse(len(records), options.max_bad_rate if options.on_bad_row == "skip" else 0.0)
    if bad.count:
        log.warning("%s: left out: %s", name, bad.told(len(records)))
    return records, bad.count


def _told_from(rows: Iterable[SourceRow], options: RowsOptions) -> Format:
    """The format of the first row that has one. Raises what is wrong with the first row where none has."""
    unknown: DataError | None = None
    for row in rows:
        try:
            return detect(_columns(row, options), row.where)
        except Fault as fault:
            unknown = unknown or DataError(f"{row.where}: {fault}.")
        except DataError as error:
            unknown = unknown or error
    raise unknown or DataError("there are no rows.")


def _columns(row: SourceRow, options: RowsOptions) -> dict[str, Any]:
    if row.fault:
        raise Fault(row.fault)
    return rename(row.values, options.columns) if options.columns else row.values


def as_chat(record: Record) -> Record:
    """The record with a plain text prompt as one user turn."""
    plain = record.prompt
    if plain is None or plain.messages is not None:
        return record
    turn = Message(role="user", content=plain.text or "")
    prompt: Prompt = replace(plain, text=None, messages=(turn,))
    changed: dict[str, Any] = {"prompt": prompt}
    shown = record.demonstration
    if shown is not None and shown.completion is not None:
        answer = Message(role="assistant", content=shown.completion)
        changed["demonstration"] = Demonstration(id=shown.id, messages=(turn, answer))
    if record.ranking is not None:
        changed["ranking"] = replace(record.ranking, prompt=prompt)
    if record.labelled is not None:
        changed["labelled"] = replace(record.labelled, prompt=prompt)
    if record.stepwise is not None:
        changed["stepwise"] = replace(record.stepwise, prompt=prompt)
    return replace(record, **changed)
