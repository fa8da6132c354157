"""A global batch in equal shards, one a rank, and outputs back in the batch's order.

Every rank gets the same number of rows, so that all take the same number of micro-batches and meet in the same
collectives; blank rows, which no mask asks for, even them out. Rank r holds rows r, r + n, r + 2n, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from rlhf.types import Batch, PreferenceBatch, TokenBatch


def shards(batch: Batch, num_ranks: int) -> list[Batch]:
    """One shard a rank."""
    if num_ranks == 1:
        return [batch]
    padded = with_blank_rows(batch, -len(batch) % num_ranks)
    return [padded[torch.arange(rank, len(padded), num_ranks)] for rank in range(num_ranks)]


def gathered(outputs: Sequence[Any], num_rows: int) -> Any:
    """The ranks' outputs as one, without the blank rows."""
    if len(outputs) == 1:
        return outputs[0]
    first = outputs[0]
    return type(first)(**{name: _interleaved([vars(o)[name] for o in outputs])[:num_rows] for name in vars(first)})


def _interleaved(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(tensors), dim=1).flatten(0, 1)


def with_blank_rows(batch: Batch, count: int) -> Batch:
    """The batch with `count` rows added that have one token and no response."""
    if count == 0:
        return batch
    if isinstance(batch, PreferenceBatch):
        num_candidates = batch.present_BK.shape[1]
        candidates = with_blank_rows(batch.candidates, count * num_candidates)
        assert isinstance(candidates, TokenBatch)
        return PreferenceBatch(
            candidates=candidates,
            present_BK=torch.cat([batch.present_BK, batch.present_BK.new_zeros(count, num_candidates)]),
            margin_B=torch.cat([batch.margin_B, batch.margin_B.new_zeros(count)]),
        )
    grown = {n: torch.cat([v, v.new_zeros(count, *v.shape[1:])]) for n, v in batch.tensors()}
    grown["attention_mask"][-count:, 0] = True
    return replace(batch, **grown)
