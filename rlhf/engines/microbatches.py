"""Cutting a batch into micro-batches of rows of like length, and putting outputs back into the batch's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from rlhf.engines.layout import Packing, prompt_families, prompt_lengths
from rlhf.engines.models import Output
from rlhf.types import Batch, PreferenceBatch, TokenBatch

AnyBatch = TypeVar("AnyBatch", TokenBatch, PreferenceBatch)


def micro_batches(batch: Batch, budget: int, packing: Packing) -> list[tuple[Tensor, Batch]]:
    """(rows, piece) pairs, longest first: memory runs out at once or never. Pieces are trimmed to their longest row.

    A piece has at most `budget` tokens, padding included where there is any and shared prompts counted once, or else
    one row. Samples of a prompt stand next to each other; a `PreferenceBatch` is cut between prompts.
    """
    return [(rows, batch[rows].trim()) for rows in _pieces(batch, budget, packing)]


@dataclass(frozen=True)
class _Row:
    """What counts when pieces are filled."""

    length: int
    prompt: int
    """Tokens it has in common with the others of its family."""
    family: int


@dataclass
class _Piece:
    """What one micro-batch holds so far."""

    packing: Packing
    units: list[int] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)

    def tokens_with(self, more: Sequence[_Row]) -> int:
        """Tokens it would run with these rows in it."""
        rows = [*self.rows, *more]
        if self.packing == "none":
            return len(rows) * max(row.length for row in rows)
        prompts = {row.family: row.prompt for row in rows}
        return sum(row.length - row.prompt for row in rows) + sum(prompts.values())


def _pieces(batch: Batch, budget: int, packing: Packing) -> list[Tensor]:
    """Indices into the batch, for each piece."""
    rows = _rows(batch.inputs, packing)
    each = len(rows) // len(batch)
    units = [rows[start : start + each] for start in range(0, len(rows), each)]
    pieces: list[_Piece] = []
    for number in _order(units):
        if not pieces or pieces[-1].tokens_with(units[number]) > budget:
            pieces.append(_Piece(packing))
        pieces[-1].units.append(number)
        pieces[-1].rows += units[number]
    return [torch.tensor(piece.units) for piece in pieces]


def _rows(inputs: TokenBatch, packing: Packing) -> list[_Row]:
    lengths = inputs.lengths_B.tolist()
    prompts = prompt_lengths(inputs) if packing == "groups" else [0] * len(lengths)
    rows = [_Row(length, 0, family=-1) for length in lengths]
    for number, family in enumerate(prompt_families(inputs, prompts)):
        for row in family:
            rows[row] = _Row(lengths[row], prompts[row], number)
    return rows


def _order(units: Sequence[Sequence[_Row]]) -> list[int]:
    """Longest first, and after a unit the others of its prompt."""
    longest = [max(row.length for row in unit) for unit in units]
    of_family: dict[int, int] = {}
    for unit, length in zip(units, longest, strict=True):
        of_family[unit[0].family] = max(of_family.get(unit[0].family, 0), length)

    def place(number: int) -> tuple[int, int, int]:
        family = units[number][0].family
        return -of_family[family], family, -longest[number]

    return sorted(range(len(units)), key=place)


def restore(pieces: Sequence[tuple[Tensor, Output]], batch: Batch) -> Output:
    """Outputs of micro-batches in the order and shape of the whole batch, zero beyond a piece's own width."""
    num_rows, width = batch.inputs.tokens.shape
    rows_each = num_rows // len(batch)
    first = pieces[0][1]
    whole = {}
    for entry in fields(first):
        like: Tensor = getattr(first, entry.name)
        over_time = like.dim() == 2 and not entry.name.endswith("_BH")
        out = like.new_zeros((num_rows, width) if over_time else (num_rows, *like.shape[1:]))
        for rows, output in pieces:
            if not len(rows):
                continue  # a process that had less to do than the others ran a blank piece
            piece: Tensor = getattr(output, entry.name)
            index = (rows[:, None] * rows_each + torch.arange(rows_each)).flatten()
            if over_time:
                out[index[:, None], torch.arange(piece.shape[1])] = piece
            else:
                out[index] = piece
        whole[entry.name] = out
    return type(first)(**whole)


def write_batch(path: Path, batch: Batch, why: str) -> None:
    """A batch as a safetensors file, for a person to look at; `why` is in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = dict(batch.inputs.tensors())
    if isinstance(batch, PreferenceBatch):
        tensors |= batch.own_tensors()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"why": why})


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """The batch on this device; the same object where it is there already."""
    if batch.inputs.tokens.device == device:
        return batch
    if isinstance(batch, PreferenceBatch):
        return batch.with_tensors(to_device(batch.candidates, device), lambda value: value.to(device))
    return replace(batch, **{name: value.to(device) for name, value in batch.tensors()})
