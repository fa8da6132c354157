"""Rows of data files as prompts with completions, to try a reward or a grader on without any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from rlhf.data.files import SourceRow, read_rows
from rlhf.data.formats import Format, detect, find_format, read_record, rename
from rlhf.data.readers import Record
from rlhf.data.turns import Fault
from rlhf.errors import DataError, nearest
from rlhf.testing.rollouts import ordinary_rollouts, rollout
from rlhf.types import Prompt, Rollout

_PROBES = 16


@dataclass(frozen=True)
class TriedRow:
    """A prompt and the completions the data has of it; best first where `is_ranked`."""

    prompt: Prompt
    completions: tuple[str, ...]
    is_ranked: bool
    where: str


@dataclass(frozen=True)
class TriedRows:
    """The rows of a file, and how many were left out because something is wrong with them."""

    rows: list[TriedRow]
    left_out: int = 0
    first_fault: str = ""

    def require_columns(self, part: str, columns: Sequence[str]) -> None:
        """Raise `DataError` for a column that `part` needs and a row lacks."""
        for row in self.rows:
            known = sorted([*row.prompt.metadata, *(["reference"] if row.prompt.reference is not None else [])])
            for name in columns:
                there = row.prompt.reference is not None if name == "reference" else name in row.prompt.metadata
                if not there:
                    raise DataError(
                        f"{part} needs the column {name!r}, which {row.where} does not have.{nearest(name, known)} "
                        f"Columns: {', '.join(known) or 'none besides prompt and completion'}. Where it has another "
                        f"name in the file, --column {name}=COLUMN reads that one as {name!r}."
                    )


def read_tried_rows(path: Path, columns: Mapping[str, str] | None = None, limit: int | None = None) -> TriedRows:
    """The first `limit` rows of a file in any format of docs/data.md; `columns` renames, ours -> theirs.

    Raises `DataError` for a file that cannot be read, and where no row of it can.
    """
    rows: list[TriedRow] = []
    faults: list[str] = []
    known: Format | None = None
    for source in read_rows([str(path)]):
        if limit is not None and len(rows) >= limit:
            break
        values = source.values
        try:
            values = rename(values, columns) if columns else values
        except Fault as fault:  # the command line named it, so every row should have it
            raise DataError(f"{source.where}: {fault}.") from None
        known = known or detect(values, source.where)
        try:
            rows.append(tried_row(known, source, values))
        except Fault as fault:
            faults.append(f"{source.where}: {fault}")
    if not rows:
        raise DataError(f"{path}: none of {len(faults)} rows can be judged; the first: {faults[0]}.")
    return TriedRows(rows, len(faults), faults[0] if faults else "")


def read_probes(path: Path) -> list[Rollout]:
    """A few rows to check a part with. Prompts without a completion are given everyday ones."""
    tried = read_tried_rows(path, limit=_PROBES)
    everyday = cycle(row.completion.text for row in ordinary_rollouts())
    answered = ((row.prompt, row.completions or tuple(islice(everyday, 2))) for row in tried.rows)
    return [rollout(prompt, text) for prompt, texts in answered for text in texts][:_PROBES]


def tried_row(known: Format, source: SourceRow, values: Mapping[str, Any]) -> TriedRow:
    """A row of this format. Raises `Fault` with what is wrong with it."""
    completion = values.get("completion")
    if known.name == "prompt_completion" and isinstance(completion, str) and not completion.strip():
        # Nothing to learn from, so a fault in training data; but policies do fall silent, as samples.jsonl shows.
        values = {name: value for name, value in values.items() if name != "completion"}
        prompt = read_record(find_format("prompt"), source.id, values).prompt
        assert prompt is not None
        return TriedRow(prompt, (completion,), False, source.where)
    record = read_record(known, source.id, values)
    if record.prompt is None:
        raise Fault(f"a row of format {known.name} has no prompt")
    return TriedRow(record.prompt, _completions(record), record.ranking is not None, source.where)


def _completions(record: Record) -> tuple[str, ...]:
    if record.ranking is not None:
        return record.ranking.completions
    if record.labelled is not None:
        return (record.labelled.completion,)
    if record.stepwise is not None:
        return ("\n".join(record.stepwise.steps),)
    shown = record.demonstration
    if shown is None:
        return ()
    return (shown.messages[-1]["content"] if shown.messages else shown.completion or "",)
