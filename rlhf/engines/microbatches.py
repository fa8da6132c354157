"""Cutting a batch into micro-batches of rows of like length, and putting outputs back into the batch's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from rlhf.engines.models import Output
from rlhf.types import Batch, PreferenceBatch, TokenBatch

AnyBatch = TypeVar("AnyBatch", TokenBatch, PreferenceBatch)


def micro_batches(batch: Batch, micro_batch_size: int) -> list[tuple[Tensor, Batch]]:
    """(rows, piece) pairs, longest first: memory runs out at once or never. Pieces are trimmed to their longest row.

    A `PreferenceBatch` is cut between prompts, so that its pieces hold at most `micro_batch_size` token rows, and at
    least one prompt.
    """
    rows_each = max(1, len(batch.inputs) // max(1, len(batch)))
    order = torch.argsort(batch.lengths_B.cpu(), descending=True, stable=True)
    size = max(1, micro_batch_size // rows_each)
    pieces = [order[start : start + size] for start in range(0, len(order), size)]
    return [(rows, batch[rows].trim()) for rows in pieces]


def restore(pieces: Sequence[tuple[Tensor, Output]], batch: Batch) -> Output:
    """Outputs of micro-batches in the order and shape of the whole batch, zero beyond a piece's own width."""
    num_rows, width = batch.inputs.tokens.shape
    rows_each = num_rows // len(batch)
    first = pieces[0][1]
    whole = {}
    for field in fields(first):
        like: Tensor = getattr(first, field.name)
        over_time = like.dim() == 2 and not field.name.endswith("_BH")
        out = like.new_zeros((num_rows, width) if over_time else (num_rows, *like.shape[1:]))
        for rows, output in pieces:
            piece: Tensor = getattr(output, field.name)
            index = (rows[:, None] * rows_each + torch.arange(rows_each)).flatten()
            if over_time:
                out[index[:, None], torch.arange(piece.shape[1])] = piece
            else:
                out[index] = piece
        whole[field.name] = out
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
