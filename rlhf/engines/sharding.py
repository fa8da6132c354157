"""The rows of a global batch that fall to one process: as many for each, and about as many tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from rlhf.types import Batch, PreferenceBatch, TokenBatch

AnyBatch = TypeVar("AnyBatch", TokenBatch, PreferenceBatch)


def shard_rows(batch: Batch, world_size: int) -> list[Tensor]:
    """Row indices for each process: dealt longest first, back and forth, so that every process gets a like load.

    The lists differ by at most one row; `shard` pads the shorter ones.
    """
    order = torch.argsort(batch.lengths_B.cpu(), descending=True, stable=True)
    place = torch.arange(len(order)) % (2 * world_size)
    owner = torch.where(place < world_size, place, 2 * world_size - 1 - place)
    return [order[owner == rank] for rank in range(world_size)]


def shard(batch: AnyBatch, rows: Tensor, num_rows: int) -> AnyBatch:
    """These rows, with blank ones after them up to `num_rows`: processes must meet in every collective."""
    piece = batch[rows]
    missing = num_rows - len(rows)
    if missing == 0:
        return piece
    if isinstance(piece, PreferenceBatch):
        candidates = _padded(piece.candidates, missing * piece.present_BK.shape[1])
        return piece.with_tensors(candidates, lambda value: _blank_after(value, missing))
    return _padded(piece, missing)


def _padded(batch: TokenBatch, missing: int) -> TokenBatch:
    return replace(batch, **{name: _blank_after(value, missing) for name, value in batch.tensors()})


def _blank_after(tensor: Tensor, missing: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))])
