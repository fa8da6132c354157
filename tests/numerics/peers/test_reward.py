"""The reward model's loss against TRL's `RewardTrainer.compute_loss` on the same scores."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rlhf.algorithms.reward_model import RankingLoss
from rlhf.types import PreferenceBatch, RewardOutput, TokenBatch

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")

ROWS = 7


class Scores(nn.Module):
    """A model whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


def theirs(scores_2B: Tensor, margin_B: Tensor | None, centring: float) -> tuple[Tensor, Tensor]:
    """Loss and gradient; TRL puts all chosen before all rejected."""
    from collections import defaultdict

    from trl.trainer.reward_trainer import RewardTrainer

    model = Scores(scores_2B.flatten().unsqueeze(1).clone())
    model.train()
    accelerator = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = SimpleNamespace(
        model=model,
        args=SimpleNamespace(center_rewards_coefficient=centring or None),
        accelerator=accelerator,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {"attention_mask": torch.ones(2 * ROWS, 3)}
    if margin_B is not None:
        inputs["margin"] = margin_B
    loss = RewardTrainer.compute_loss(trainer, model, inputs)
    loss.backward()
    assert model.logits.grad is not None
    return loss.detach(), model.logits.grad.view(2, ROWS)


def ours(scores_2B: Tensor, margin_B: Tensor | None, loss_fn: RankingLoss) -> tuple[Tensor, Tensor]:
    blank = torch.zeros(2 * ROWS, 1)
    rows = TokenBatch(tokens=blank.long(), attention_mask=blank.bool(), response_mask=blank.bool())
    batch = PreferenceBatch(
        candidates=rows,
        present_BK=torch.ones(ROWS, 2, dtype=torch.bool),
        margin_B=torch.zeros(ROWS) if margin_B is None else margin_B,
    )
    scores_BK = scores_2B.T.clone().requires_grad_()
    loss = loss_fn(RewardOutput(scores_B=scores_BK.flatten()), batch).total / loss_fn.count(batch)
    loss.backward()
    assert scores_BK.grad is not None
    return loss.detach(), scores_BK.grad.T


@pytest.mark.parametrize("kind", ["pairs", "plackett_luce"])
@pytest.mark.parametrize("centring", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("with_margin", [False, True])
def test_loss_and_gradient_of_pairs(kind, centring, with_margin) -> None:
    """Of two completions the listwise loss is theirs as well."""
    scores_2B = 3 * torch.randn(2, ROWS)
    margin_B = torch.rand(ROWS) if with_margin else None
    mine = ours(scores_2B, margin_B, RankingLoss(centring, kind))
    for got, expected in zip(mine, theirs(scores_2B, margin_B, centring), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_theirs_has_no_label_smoothing_ours_is_the_mean_of_both_labels() -> None:
    """So it can be had from theirs: the loss as labelled and with the labels turned round."""
    scores_2B = 3 * torch.randn(2, ROWS)
    loss, gradient = ours(scores_2B, None, RankingLoss(label_smoothing=0.2))
    (as_labelled, one), (turned, other) = (theirs(x, None, 0.0) for x in (scores_2B, scores_2B.flip(0)))
    torch.testing.assert_close(loss, 0.8 * as_labelled + 0.2 * turned, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, 0.8 * one + 0.2 * other.flip(0), atol=1e-5, rtol=1e-5)
