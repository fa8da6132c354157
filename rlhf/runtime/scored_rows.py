"""Rollouts as rows of a batch, with what is known of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from rlhf.types import Rollout, ScoredBatch, TokenBatch


def scored_batch(rows: TokenBatch, rollouts: Sequence[Rollout], staleness: Sequence[int] | None) -> ScoredBatch:
    """`rows` are the rollouts' prompts and completions `[B, T]`; scores are NaN where nothing was scored. `staleness`:
    updates of the policy since each was begun, where samples are drawn ahead.
    """
    sampled = torch.zeros(rows.tokens.shape, dtype=torch.float32)
    for row, rollout in enumerate(rollouts):
        sampled[row, rows.response_mask[row]] = torch.tensor(rollout.completion.logprobs, dtype=torch.float32)
    groups: dict[str, int] = {}
    costs = [rollout.cost for rollout in rollouts]
    return ScoredBatch(
        tokens=rows.tokens,
        attention_mask=rows.attention_mask,
        response_mask=rows.response_mask,
        sampled_logprobs=sampled,
        scores_B=torch.tensor([math.nan if r.reward is None else r.reward for r in rollouts], dtype=torch.float32),
        truncated_B=torch.tensor([rollout.completion.finish_reason == "length" for rollout in rollouts]),
        group_B=torch.tensor([groups.setdefault(rollout.prompt.id, len(groups)) for rollout in rollouts]),
        costs_B=None if None in costs else torch.tensor(costs, dtype=torch.float32),
        staleness_B=None if staleness is None else torch.tensor(staleness),
    )
