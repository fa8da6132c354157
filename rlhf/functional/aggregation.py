"""How per-token losses become one number: weights and a count, with `loss = sum(weights * losses) / count`.

The count is global. An engine sums `weights * losses` over micro-batches and ranks and divides once, so neither can
change the loss. `token_mean`, `sequence_mean` and `sequence_sum` give a row weights that depend on that row alone and
may be taken piece by piece; `prompt_mean` must see all of a prompt's rows. Rows without a masked token weigh nothing
and are not counted.

Each mode returns `(weights, count)`: `weights` `[B, T]` float32, zero outside the mask; `count` a float32 scalar, 0 for
a batch without a masked token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_mean(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Every token weighs the same: long rows weigh more (DAPO, arXiv:2503.14476)."""
    return mask.float(), mask.sum().float()


def sequence_mean(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over each row's tokens, then over rows: every row weighs the same (GRPO, arXiv:2402.03300)."""
    lengths_B = mask.sum(1, keepdim=True)
    return mask / lengths_B.clamp(min=1), _non_empty(lengths_B)


def sequence_sum(mask: Tensor, max_len: int) -> tuple[Tensor, Tensor]:
    """Sum over each row's tokens divided by the constant `max_len`, mean over rows (Dr. GRPO, arXiv:2503.20783)."""
    return mask / max_len, _non_empty(mask.sum(1))


def prompt_mean(mask: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the tokens of all rows of a prompt, then over prompts; `group_B` holds an integer per prompt."""
    names, index_B = torch.unique(group_B, return_inverse=True)
    lengths_B = mask.sum(1)
    tokens_G = lengths_B.new_zeros(len(names)).index_add(0, index_B, lengths_B)
    return mask / tokens_G[index_B].clamp(min=1).unsqueeze(1), _non_empty(tokens_G)


def weighted_sum(losses: Tensor, weights: Tensor) -> Tensor:
    """`sum of weights * losses`, a scalar; a token of weight zero adds nothing, whatever its loss is."""
    return (torch.where(weights != 0, losses, 0) * weights).sum()


def _non_empty(lengths: Tensor) -> Tensor:
    return (lengths > 0).sum().float()
