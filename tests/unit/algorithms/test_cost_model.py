"""The cost model's loss: by hand, by definition, by relation, by gradient."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.cost_model import CostModel, CostModelConfig, SignLoss, agrees
from rlhf.types import LabelledBatch, RewardOutput

LOSS = SignLoss()


def judged(labels: list[bool], blank: tuple[int, ...] = ()) -> LabelledBatch:
    mask = torch.tensor([[row not in blank] * 2 for row in range(len(labels))])
    return LabelledBatch(
        tokens=torch.ones_like(mask, dtype=torch.long),
        attention_mask=mask,
        response_mask=mask,
        label_B=torch.tensor(labels),
    )


def total(costs: Tensor, batch: LabelledBatch) -> Tensor:
    return LOSS(RewardOutput(scores_B=costs), batch).total


def test_by_hand_and_by_definition() -> None:
    # Acceptable at -log 3: probability 3/4. Not acceptable at log 3: so too. Acceptable at log 3: 1/4.
    costs, batch = torch.tensor([-math.log(3), math.log(3), math.log(3)]), judged([True, False, True])
    loss = LOSS(RewardOutput(scores_B=costs), batch)
    assert loss.total.item() == pytest.approx(2 * math.log(4 / 3) + math.log(4))
    assert LOSS.count(batch) == 3
    assert [x.item() for x in loss.sums["reward/accuracy"]] == [2, 3]
    probability = costs.double().sigmoid()  # of not being acceptable
    naive = -sum(math.log(1 - p if good else p) for p, good in zip(probability.tolist(), [1, 0, 1], strict=True))
    assert loss.total.item() == pytest.approx(naive)


def test_blank_rows_and_order_cannot_matter() -> None:
    costs, labels = torch.tensor([0.5, -2.0, 1.0]), [True, False, False]
    whole = total(costs, judged(labels))
    padded = LOSS(
        RewardOutput(scores_B=torch.cat([costs, torch.tensor([math.nan])])), judged([*labels, True], blank=(3,))
    )
    assert padded.total == whole
    assert padded.sums["reward/accuracy"][1] == 3
    assert LOSS.count(judged([*labels, True], blank=(3,))) == 3
    torch.testing.assert_close(total(costs[[2, 0, 1]], judged([labels[n] for n in (2, 0, 1)])), whole)
    parts = sum(total(costs[n : n + 1], judged(labels[n : n + 1])) for n in range(3))
    torch.testing.assert_close(parts, whole)


def test_gradients_and_their_sign() -> None:
    costs = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    batch = judged([True, False, True, False])
    assert torch.autograd.gradcheck(lambda c: total(c, batch), costs)
    (gradient,) = torch.autograd.grad(total(costs, batch), costs)
    assert (gradient > 0).tolist() == [True, False, True, False]  # acceptable goes down, the rest up
    with_nan = torch.tensor([0.3, math.nan], requires_grad=True)
    (gradient,) = torch.autograd.grad(total(with_nan, judged([True, True], blank=(1,))), with_nan)
    assert gradient.isfinite().all()
    assert gradient[1] == 0


def test_it_is_stable_far_out() -> None:
    assert total(torch.tensor([1000.0, -1000.0]), judged([True, False])).item() == 2000
    assert total(torch.tensor([-1000.0, 1000.0]), judged([True, False])).item() == 0


def test_zero_takes_no_side() -> None:
    assert agrees(torch.tensor([0.0, 0.0, -1.0, 1.0]), torch.tensor([True, False, True, True])).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_a_small_cost_takes_a_side_too() -> None:
    costs, acceptable = torch.tensor([-0.1, 0.1, -0.1, 0.1]), torch.tensor([True, True, False, False])
    assert agrees(costs, acceptable).tolist() == [True, False, False, True]


def test_held_out_figures_are_the_completions_on_the_right_side_of_zero() -> None:
    batch = judged([True, True, False, False])
    output = RewardOutput(scores_B=torch.tensor([-0.5, 2.0, 0.5, -3.0]))
    run: Any = SimpleNamespace(
        reward=SimpleNamespace(forward=lambda rows: {4: output}[len(rows)]), held_out_labelled=lambda: batch
    )
    assert CostModel(CostModelConfig()).measure(run) == {"accuracy": [1.0, 0.0, 1.0, 0.0]}
