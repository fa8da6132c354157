"""The loss of steps: by hand, against torch's own, by relation, by gradient."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rlhf.algorithms.process_reward_model import ProcessRewardModel, ProcessRewardModelConfig, StepLoss
from rlhf.types import StepBatch, StepOutput

LOSS = StepLoss()
ENDS = torch.tensor([[False, True, False, True], [False, False, True, False], [False] * 4])
LABELS = torch.tensor([[False, True, False, False], [False, False, True, False], [False] * 4])


def batch(rows: Tensor | slice = slice(None)) -> StepBatch:
    full = StepBatch(
        tokens=torch.ones(3, 4, dtype=torch.long),
        attention_mask=torch.ones(3, 4, dtype=torch.bool),
        response_mask=ENDS,
        labels=LABELS,
    )
    return full[rows]


def test_by_hand() -> None:
    scores = torch.tensor([[9.0, math.log(3), 9.0, math.log(3)], [9.0, 9.0, -math.log(3), 9.0], [9.0] * 4])
    loss = LOSS(StepOutput(scores=scores), batch())
    # Right and thought so at 3/4; wrong and thought right at 3/4; right and thought so at 1/4.
    assert loss.total.item() == pytest.approx(math.log(4 / 3) + 2 * math.log(4))
    assert LOSS.count(batch()) == 3
    assert [x.item() for x in loss.sums["reward/accuracy"]] == [1, 3]


def test_against_torch_and_row_by_row() -> None:
    scores = 3 * torch.randn(3, 4)
    total = LOSS(StepOutput(scores=scores), batch()).total
    theirs = binary_cross_entropy_with_logits(scores[ENDS], LABELS[ENDS].float(), reduction="sum")
    torch.testing.assert_close(total, theirs)
    pieces = sum(LOSS(StepOutput(scores=scores[n : n + 1]), batch(slice(n, n + 1))).total for n in range(3))
    torch.testing.assert_close(pieces, total)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(LOSS(StepOutput(scores=scores[order]), batch(order)).total, total)


def test_gradient_sign_and_nothing_from_elsewhere() -> None:
    scores = torch.where(ENDS, torch.randn(3, 4), math.nan).requires_grad_()
    LOSS(StepOutput(scores=scores), batch()).total.backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[~ENDS] == 0).all()
    assert (scores.grad[ENDS] < 0).tolist() == LABELS[ENDS].tolist()
    exact = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: LOSS(StepOutput(scores=s), batch()).total, exact)


def test_it_is_stable_far_out() -> None:
    scores = torch.where(LABELS, -1000.0, 1000.0)
    assert LOSS(StepOutput(scores=scores), batch()).total.item() == 3000


def test_a_step_is_told_right_by_a_score_above_zero() -> None:
    def accuracy(score: float) -> float:
        right, count = LOSS(StepOutput(scores=torch.full((3, 4), score)), batch()).sums["reward/accuracy"]
        assert count == 3
        return int(right)

    # Two of the three steps are right.
    assert (accuracy(0.1), accuracy(0.0), accuracy(-0.1)) == (2, 1, 1)


def measured(scores: Tensor, judged: StepBatch) -> Any:
    """Figures of a model that gives these scores, asked with the separator of its options."""
    run: Any = SimpleNamespace(
        reward=SimpleNamespace(forward=lambda rows: {len(judged): StepOutput(scores=scores)}[len(rows)]),
        held_out_stepwise=lambda separator: {";": judged}[separator],
    )
    return ProcessRewardModel(ProcessRewardModelConfig(separator=";")).measure(run)


def test_held_out_figures_by_hand() -> None:
    """A right and a wrong step; three right ones and a wrong one, all scored as right but one right one."""
    ends = torch.tensor([[False, True, False, True], [True, True, True, True]])
    labels = torch.tensor([[False, True, False, False], [True, True, True, False]])
    ones = torch.ones(2, 4)
    judged = StepBatch(tokens=ones.long(), attention_mask=ones.bool(), response_mask=ends, labels=labels)
    scores = torch.tensor([[5.0, 0.5, 5.0, -0.5], [0.5, -0.5, 0.5, 0.5]])
    assert measured(scores, judged) == {"accuracy": [1.0, 0.5], "accuracy_all_right": [0.5, 0.75]}
    assert measured(torch.zeros(2, 4), judged)["accuracy"] == [0.5, 0.25]  # 0 is not above 0
