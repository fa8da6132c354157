"""Where the tokens of a batch stand in the rows a network runs over: padded `[B, T]`, or packed end to end `[1, N]`.

Right padding needs no attention mask: under a causal mask no real token sees what follows it. Packed rows are kept
apart by position ids that restart at 0, from which transformers builds a block-diagonal mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf.types import TokenBatch


@dataclass(frozen=True)
class Layout:
    """What a network runs over, and where the batch's tokens are in it."""

    tokens: Tensor  # [R, N]
    position_ids: Tensor | None  # [R, N]; None: 0, 1, 2, ... in every row
    places: Tensor  # [B, T] index of each real token into tokens.flatten(); 0 on padding


def padded(batch: TokenBatch) -> Layout:
    """The rows as they are."""
    rows, width = batch.tokens.shape
    places = torch.arange(rows * width, device=batch.tokens.device).view(rows, width)
    return Layout(tokens=batch.tokens, position_ids=None, places=places)


def packed(batch: TokenBatch) -> Layout:
    """All real tokens in one row. A batch without any keeps one, so that every process has something to run."""
    mask = batch.attention_mask
    if not bool(mask.any()):
        mask = torch.zeros_like(mask)
        mask[0, 0] = True
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    places = torch.where(mask, mask.flatten().cumsum(0).view(mask.shape) - 1, 0)
    return Layout(tokens=batch.tokens[mask][None], position_ids=positions[mask][None], places=places)


def layout(batch: TokenBatch, packing: bool) -> Layout:
    """Packed or padded, as the engine is set."""
    return packed(batch) if packing else padded(batch)
