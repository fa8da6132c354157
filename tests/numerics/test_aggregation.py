"""Aggregation modes: by hand, by a loop, and that no cut of the batch changes the loss."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf.functional.aggregation import prompt_mean, sequence_mean, sequence_sum, token_mean, weighted_sum

GROUPS = torch.tensor([5, 5, 2, 9, 2, 7])
Mode = Callable[[Tensor], tuple[Tensor, Tensor]]

MODES: dict[str, Mode] = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "sequence_sum": lambda mask: sequence_sum(mask, 10),
    "prompt_mean": lambda mask: prompt_mean(mask, GROUPS[: len(mask)]),
}


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Losses and a mask; row 3 is empty, and with it prompt 9."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 8, generator=generator) < 0.6
    mask[3] = False
    return torch.randn(6, 8, generator=generator, dtype=torch.float64), mask


def loss_of(mode: Mode, losses: Tensor, mask: Tensor) -> float:
    weights, count = mode(mask)
    return (weighted_sum(losses, weights) / count).item()


def test_by_hand() -> None:
    losses = torch.tensor([[1.0, 3.0], [5.0, 100.0], [100.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    assert loss_of(token_mean, losses, mask) == pytest.approx(3)  # (1 + 3 + 5) / 3
    assert loss_of(sequence_mean, losses, mask) == pytest.approx(3.5)  # (2 + 5) / 2
    assert loss_of(lambda m: sequence_sum(m, 10), losses, mask) == pytest.approx(0.45)  # (0.4 + 0.5) / 2
    assert loss_of(lambda m: prompt_mean(m, torch.tensor([0, 0, 1])), losses, mask) == pytest.approx(3)


def test_by_definition() -> None:
    losses, mask = batch()
    rows = [losses[b, mask[b]].tolist() for b in range(6)]
    full = [row for row in rows if row]
    prompts = [[x for b in range(6) if GROUPS[b] == g for x in rows[b]] for g in GROUPS.unique()]
    expected = {
        "token_mean": statistics.mean(itertools.chain(*rows)),
        "sequence_mean": statistics.mean(statistics.mean(row) for row in full),
        "sequence_sum": statistics.mean(sum(row) / 10 for row in full),
        "prompt_mean": statistics.mean(statistics.mean(tokens) for tokens in prompts if tokens),
    }
    assert {name: loss_of(mode, losses, mask) for name, mode in MODES.items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", MODES)
def test_rows_without_tokens_and_padding_cannot_matter(name: str) -> None:
    losses, mask = batch()
    value = loss_of(MODES[name], losses, mask)
    assert loss_of(MODES[name], torch.where(mask, losses, math.nan), mask) == value
    wide_losses = torch.cat([losses, torch.full((6, 3), math.nan)], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(6, 3, dtype=torch.bool)], dim=1)
    assert loss_of(MODES[name], wide_losses, wide_mask) == pytest.approx(value)


@pytest.mark.parametrize("name", ["token_mean", "sequence_mean", "sequence_sum"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_add_up(name: str, size: int) -> None:
    losses, mask = batch()
    pieces = [(losses[s : s + size], MODES[name](mask[s : s + size])) for s in range(0, 6, size)]
    total = sum(weighted_sum(x, weights).item() for x, (weights, _) in pieces)
    count = sum(count.item() for _, (_, count) in pieces)
    assert total / count == pytest.approx(loss_of(MODES[name], losses, mask))


def test_prompt_weights_of_the_whole_batch_may_be_cut_with_it() -> None:
    losses, mask = batch()
    weights, count = MODES["prompt_mean"](mask)
    total = sum(weighted_sum(losses[s : s + 2], weights[s : s + 2]).item() for s in (0, 2, 4))
    assert total / count.item() == pytest.approx(loss_of(MODES["prompt_mean"], losses, mask))


@pytest.mark.parametrize("name", MODES)
def test_weights_are_zero_outside_the_mask_and_count_is_what_is_averaged(name: str) -> None:
    _, mask = batch()
    weights, count = MODES[name](mask)
    assert weights.dtype == count.dtype == torch.float32
    assert ((weights != 0) == mask).all()
    assert count.item() == {"token_mean": mask.sum().item(), "prompt_mean": 3}.get(name, 5)
    if name != "sequence_sum":
        assert weights.sum().item() == pytest.approx(count.item())


@pytest.mark.parametrize("name", MODES)
def test_an_empty_batch_is_zero_over_zero_not_nan(name: str) -> None:
    weights, count = MODES[name](torch.zeros(6, 8, dtype=torch.bool))
    assert weighted_sum(torch.full((6, 8), math.nan), weights).item() == 0
    assert count.item() == 0


def test_gradient_of_the_sum_is_the_weights() -> None:
    losses, mask = batch()
    losses.requires_grad_()
    weights, _ = sequence_mean(mask)
    assert torch.autograd.gradcheck(lambda x: weighted_sum(x, weights.double()), losses)
    (gradient,) = torch.autograd.grad(weighted_sum(losses, weights), losses)
    torch.testing.assert_close(gradient, weights.double())


def test_a_prompt_with_one_token_weighs_as_much_as_another() -> None:
    losses, mask = torch.tensor([[4.0, 9.0], [1.0, 3.0]]), torch.tensor([[True, False], [True, True]])
    assert loss_of(lambda m: prompt_mean(m, torch.tensor([0, 1])), losses, mask) == 3  # (4 + 2) / 2
    assert loss_of(sequence_mean, losses, mask) == 3
