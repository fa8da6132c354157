"""Cross entropy of weighted tokens: what pre-training, SFT and RAFT minimise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.supervised import SFT, NextTokenLoss, SFTConfig
from rlhf.types import PolicyOutput, TokenBatch

MASK = torch.tensor([[False, True, True, False], [False, False, True, True]])
WEIGHTS = torch.tensor([[9.0, 0.5, 2.0, 9.0], [9.0, 9.0, 0.0, 1.0]])


def batch(mask: Tensor = MASK, weights: Tensor | None = None) -> TokenBatch:
    return TokenBatch(
        tokens=torch.zeros(mask.shape, dtype=torch.long),
        attention_mask=torch.ones_like(mask),
        response_mask=mask,
        loss_weights=weights,
    )


def loss(logprobs: Tensor, rows: TokenBatch) -> Tensor:
    return NextTokenLoss()(PolicyOutput(logprobs=logprobs, entropy=torch.ones_like(logprobs)), rows).total


def test_by_hand() -> None:
    logprobs = torch.tensor([[0.5, 0.5, 0.25, 0.5], [0.5, 0.5, 0.125, 0.5]]).log()
    assert loss(logprobs, batch()).item() == pytest.approx(math.log(2 * 4 * 8 * 2))
    assert NextTokenLoss().count(batch()) == 4
    assert loss(logprobs, batch(weights=WEIGHTS)).item() == pytest.approx(math.log(2) * (0.5 + 2 * 2 + 1))
    assert NextTokenLoss().count(batch(weights=WEIGHTS)) == 3.5


def test_by_definition() -> None:
    mask, weights, logprobs = torch.rand(5, 9) < 0.5, torch.rand(5, 9), -torch.rand(5, 9)
    total, count = 0.0, 0.0
    for row in range(5):
        for t in range(9):
            if mask[row, t]:
                total -= float(weights[row, t]) * float(logprobs[row, t])
                count += float(weights[row, t])
    assert loss(logprobs, batch(mask, weights)).item() == pytest.approx(total, rel=1e-5)
    assert NextTokenLoss().count(batch(mask, weights)) == pytest.approx(count, rel=1e-5)


def test_weights_of_one_are_no_weights_and_the_order_of_rows_does_not_matter() -> None:
    logprobs = -torch.rand(2, 4)
    plain = loss(logprobs, batch())
    assert torch.equal(loss(logprobs, batch(weights=torch.ones(2, 4))), plain)
    assert loss(logprobs.flip(0), batch(MASK.flip(0))).item() == pytest.approx(plain.item())
    assert loss(logprobs, batch(weights=2 * WEIGHTS)).item() == pytest.approx(
        2 * loss(logprobs, batch(weights=WEIGHTS)).item()
    )


def test_what_is_outside_the_mask_may_be_anything_and_blank_rows_add_nothing() -> None:
    logprobs = -torch.rand(2, 4)
    odd = torch.where(MASK, logprobs, torch.nan).requires_grad_()
    rows = batch(weights=torch.where(MASK, WEIGHTS, torch.nan))
    total = loss(odd, rows)
    assert total.item() == pytest.approx(loss(logprobs, batch(weights=WEIGHTS)).item())
    total.backward()
    assert odd.grad is not None
    assert torch.equal(odd.grad, torch.where(MASK, -WEIGHTS, 0))
    blank = loss(torch.full((2, 4), torch.nan), batch(torch.zeros_like(MASK)))
    assert blank.item() == 0
    assert NextTokenLoss().count(batch(torch.zeros_like(MASK))) == 0


def test_gradient() -> None:
    logprobs = -torch.rand(2, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, batch(weights=WEIGHTS.double())), (logprobs.requires_grad_(),), atol=1e-8
    )


def test_entropy_is_reported_of_trained_tokens() -> None:
    entropy = torch.where(MASK, torch.arange(8.0).view(2, 4), torch.nan)
    summed, count = NextTokenLoss()(PolicyOutput(logprobs=-torch.rand(2, 4), entropy=entropy), batch()).sums[
        "policy/entropy"
    ]
    assert (summed.item(), count.item()) == (1 + 2 + 6 + 7, 4)


class HeldOut:
    """A run with two held-out rows."""

    def __init__(self, logprobs: Tensor, rows: TokenBatch | None) -> None:
        self.logprobs, self.rows, self.policy = logprobs, rows, self

    def forward(self, rows: TokenBatch) -> PolicyOutput:
        return PolicyOutput(logprobs=self.logprobs, entropy=self.logprobs)

    def held_out_demonstrations(self) -> Any:
        return self.rows


def test_a_held_out_row_is_measured_by_its_weighted_mean() -> None:
    logprobs = torch.where(MASK, torch.tensor([[0.0, -1.0, -2.0, 0.0], [0.0, 0.0, -3.0, -4.0]]), torch.nan)
    algorithm = SFT(SFTConfig(neftune_alpha=5.0))
    assert algorithm.loss == NextTokenLoss(embedding_noise=5.0)
    measured = algorithm.measure(HeldOut(logprobs, batch(weights=WEIGHTS)))  # type: ignore[arg-type]
    assert measured == {"loss": [pytest.approx((0.5 + 4.0) / 2.5), 4.0]}
    assert algorithm.measure(HeldOut(logprobs, None)) == {}  # type: ignore[arg-type]
