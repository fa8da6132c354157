"""What PPO takes the end of a completion to be worth, where it ended and where it was cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlhf.algorithms.ppo import PPO, PPOConfig
from rlhf.types import ScoredBatch


def ends(**options: Any) -> tuple[list[float], list[float]]:
    """Scores and values of what follows, of a completion that ended and one that was cut."""
    tokens = torch.ones(2, 3, dtype=torch.int64)
    mask = tokens.bool()
    batch = ScoredBatch(
        tokens=tokens,
        attention_mask=mask,
        response_mask=mask,
        sampled_logprobs=torch.zeros(2, 3),
        scores_B=torch.tensor([1.0, 2.0]),
        truncated_B=torch.tensor([False, True]),
        group_B=torch.tensor([0, 1]),
    )
    scores_B, final_values_B = PPO(PPOConfig(steps=1, **options)).ends(batch, torch.tensor([5.0, 7.0]))
    return scores_B.tolist(), final_values_B.tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ([1.0, 0.0], [0.0, 7.0])),
        ({"missing_eos_penalty": 0.5}, ([1.0, -0.5], [0.0, 7.0])),
        ({"truncated": "score"}, ([1.0, 2.0], [0.0, 0.0])),
        ({"truncated": "score", "missing_eos_penalty": 0.5}, ([1.0, 1.5], [0.0, 0.0])),
    ],
)
def test_a_cut_completion_has_a_score_or_a_future_never_both(
    options: dict[str, Any], expected: tuple[list[float], list[float]]
) -> None:
    assert ends(**options) == expected
