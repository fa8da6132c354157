"""The `files` data set (local files and hub sets) and `rows`, the same for rows written in the recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

from pydantic import Field, field_validator

from rlhf.config import PartConfig
from rlhf.data.files import Documents, HubOptions, SourceRow, read_rows
from rlhf.data.formats import detect, find_format, read_record, rename
from rlhf.data.readers import Record
from rlhf.data.records import Records, Turns, split_held_out
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.types import Demonstration, Message, Prompt

log = logging.getLogger(__name__)


class RowsOptions(PartConfig):
    """What becomes of rows, wherever they come from."""

    format: str | None = None
    """The row format by name (docs/data.md); told from the columns of the first row where absent."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The format's column -> the data's column, where they differ: `{prompt: question, reference: answer}`."""
    chat: bool = False
    """Treat plain text prompts as one user turn, so that the chat template is applied to them."""
    turns: Turns = "all"
    """Which assistant turns are trained: `all` in one pass, the `last` only, or one sample for `each`."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do about a row with something wrong; skipped rows are counted in `data/bad_rows`."""
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
        records, bad = _read(name, read_rows(paths, config.documents, hub), config)
        kept, held = split_held_out(records, config.held_out, name)
        super().__init__(name, kept, held, config.turns, bad)


class RowsDataset(Records):
    """Rows of the recipe."""

    def __init__(self, config: RowsConfig) -> None:
        source = (SourceRow(row, f"rows:{number}", f"rows[{number}]") for number, row in enumerate(config.rows))
        records, bad = _read("rows", source, config)
        kept, held = split_held_out(records, config.held_out, "rows")
        super().__init__("rows", kept, held, config.turns, bad)


def _read(name: str, source: Iterable[SourceRow], options: RowsOptions) -> tuple[list[Record], int]:
    """The records, and how many rows were skipped."""
    known = find_format(options.format) if options.format else None
    records: list[Record] = []
    bad, first_fault = 0, ""
    for row in islice(source, options.max_rows):
        values = rename(row.values, options.columns, row.where) if options.columns else row.values
        known = known or detect(values, row.where)
        try:
            record = read_record(known, row.id, values)
        except Fault as fault:
            if options.on_bad_row == "error":
                raise DataError(f"{row.where}: {fault}. Mend the row, or set on_bad_row: skip.") from None
            bad, first_fault = bad + 1, first_fault or f"{row.where}: {fault}"
            continue
        records.append(as_chat(record) if options.chat else record)
    if not records:
        raise DataError(f"{name}: none of {bad} rows is usable; the first: {first_fault}.")
    if bad:
        log.warning("%s: left out %d rows of %d; the first: %s", name, bad, bad + len(records), first_fault)
    return records, bad


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
