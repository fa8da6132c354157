"""Random batches of the preference methods, and ways to cut them that must not matter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rlhf.engines.sharding import shard
from rlhf.types import PolicyOutput, PreferenceBatch, TokenBatch


def rankings(num_prompts: int = 6, most: int = 4, width: int = 10) -> tuple[PreferenceBatch, Tensor]:
    """Prompts with 2 to `most` candidates (the second has a single one), and log-probs `[B*K, T]`."""
    counts_B1 = torch.randint(2, most + 1, (num_prompts, 1))
    counts_B1[0], counts_B1[1], counts_B1[2] = most, 1, 2
    present_BK = torch.arange(most) < counts_B1
    present_R1 = present_BK.flatten()[:, None]
    places = torch.arange(width)
    prompt_R1 = torch.randint(1, 4, (num_prompts, 1)).repeat(1, most).view(-1, 1)
    ends_R1 = prompt_R1 + torch.randint(1, width - 3, (num_prompts * most, 1))
    attention_mask = present_R1 & (places < ends_R1)
    rows = TokenBatch(
        tokens=torch.randint(0, 50, (num_prompts * most, width)),
        attention_mask=attention_mask,
        response_mask=attention_mask & (places >= prompt_R1),
    )
    batch = PreferenceBatch(
        candidates=rows,
        present_BK=present_BK,
        margin_B=torch.zeros(num_prompts),
        ref_logprobs_BK=torch.where(present_BK, -5 * torch.rand(num_prompts, most), 0),
    )
    return batch, -3 * torch.rand(rows.tokens.shape)


def dirty(logprobs: Tensor, batch: PreferenceBatch | TokenBatch) -> Tensor:
    """The log-probs with NaN wherever no mask asks."""
    return torch.where(batch.inputs.response_mask, logprobs, math.nan)


def result(loss_fn: Any, batch: Any, logprobs: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Loss over the global count, gradient for the log-probs, figures."""
    leaf = logprobs.clone().requires_grad_()
    found = loss_fn(PolicyOutput(logprobs=leaf, entropy=torch.zeros_like(leaf)), batch)
    loss = found.total / loss_fn.count(batch)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad, {name: float(total / count) for name, (total, count) in found.sums.items()}


def result_in_pieces(loss_fn: Any, batch: Any, logprobs: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
    """The same from pieces, as micro-batches and ranks cut a batch."""
    leaf = logprobs.clone().requires_grad_()
    total = torch.zeros(())
    sums: dict[str, Tensor] = {}
    for piece, mine in _pieces(batch, leaf):
        found = loss_fn(PolicyOutput(logprobs=mine, entropy=torch.zeros_like(mine)), piece)
        total = total + found.total
        for name, pair in found.sums.items():
            sums[name] = sums.get(name, 0) + torch.stack([part.detach().double() for part in pair])
    loss = total / loss_fn.count(batch)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad, {name: float(pair[0] / pair[1]) for name, pair in sums.items()}


def _pieces(batch: Any, logprobs: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """One prompt at a time, last first, then the blank one that evens out the ranks; NaN wherever no mask asks."""
    rows_each = len(batch.inputs) // len(batch)
    for row in reversed(range(len(batch))):
        piece = batch[torch.tensor([row])]
        yield piece, dirty(logprobs[row * rows_each : (row + 1) * rows_each], piece)
    yield (
        shard(batch, torch.tensor([], dtype=torch.int64), 1),
        logprobs.new_full((rows_each, logprobs.shape[1]), math.nan),
    )
