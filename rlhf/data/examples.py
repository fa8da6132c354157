"""Demonstrations in the order they are written, to be shown to a model rather than trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhf.data.files import SourceRow, read_rows
from rlhf.data.formats import detect, read_record
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.types import Demonstration


def read_examples(source: str | Sequence[Mapping[str, Any]]) -> list[Demonstration]:
    """The demonstrations of a file, or of rows written in the recipe, in any format that has them.

    Raises `DataError` for a row that is not a demonstration, with its place.
    """
    if isinstance(source, str):
        rows = list(read_rows([source]))
    else:
        rows = [SourceRow(dict(row), f"in_context:{n}", f"in_context[{n}]") for n, row in enumerate(source)]
    return [_demonstration(row) for row in rows]


def _demonstration(row: SourceRow) -> Demonstration:
    known = detect(row.values, row.where)
    try:
        demonstration = read_record(known, row.id, row.values).demonstration
    except Fault as fault:
        raise DataError(f"{row.where}: {fault}. Mend the row.") from None
    if demonstration is None:
        raise DataError(f"{row.where}: a {known.name} row shows no answer; examples need prompt and completion")
    return demonstration
