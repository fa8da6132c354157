"""Weights for tokens another engine sampled: by hand, by a loop, by relation; they carry no gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.correction import chi_square, effective_sample_share, sampling_correction


def samples(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs by the train engine and by the rollout engine, and a mask with an empty row."""
    generator = torch.Generator().manual_seed(seed)
    old, sampled = 0.5 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    mask = torch.rand(5, 7, generator=generator) < 0.7
    mask[2] = False
    return old, sampled, mask


def test_by_hand() -> None:
    old, sampled = torch.tensor([[-1.0, -2.0, 7.0]]).double(), torch.tensor([[-1.5, -1.8, 0.0]]).double()
    mask = torch.tensor([[True, True, False]])
    token = sampling_correction(old, sampled, mask, "token", 1.2)
    assert token.weights[0].tolist() == pytest.approx([1.2, math.exp(-0.2), 0])
    assert token.ratio[0].tolist() == pytest.approx([math.exp(0.5), math.exp(-0.2), 1])
    sequence = sampling_correction(old, sampled, mask, "sequence", 5.0)
    assert sequence.weights[0].tolist() == pytest.approx([math.exp(0.3), math.exp(0.3), 0])


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_by_definition(level: str) -> None:
    old, sampled, mask = samples()
    found = sampling_correction(old, sampled, mask, level, 1.5)  # type: ignore[arg-type]
    for b in range(5):
        of_row = math.exp(sum((old[b, t] - sampled[b, t]).item() for t in range(7) if mask[b, t]))
        for t in range(7):
            ratio = of_row if level == "sequence" else math.exp((old[b, t] - sampled[b, t]).item())
            assert found.ratio[b, t].item() == pytest.approx(ratio if mask[b, t] else 1)
            assert found.weights[b, t].item() == pytest.approx(min(ratio, 1.5) if mask[b, t] else 0)
    assert (found.ratio > 1.5).any()


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_where_the_engines_agree_it_is_one(level: str) -> None:
    old, _, mask = samples()
    assert torch.equal(sampling_correction(old, old, mask, level, 2.0).weights, mask.double())  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_padding_cannot_leak_and_nothing_has_a_gradient(level: str) -> None:
    old, sampled, mask = samples()
    clean = sampling_correction(old, sampled, mask, level, 2.0)  # type: ignore[arg-type]
    dirty = [torch.where(mask, x, math.nan).requires_grad_() for x in (old, sampled)]
    found = sampling_correction(*dirty, mask, level, 2.0)  # type: ignore[arg-type]
    assert torch.equal(found.weights, clean.weights)
    assert torch.equal(found.ratio, clean.ratio)
    assert not found.weights.requires_grad


def test_the_token_weight_makes_an_expectation_that_of_the_other_policy() -> None:
    """What importance weights are for: E_sampled[w f] = E_old[f], without a cut."""
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    f = torch.tensor([1.0, -2.0, 5.0]).double()
    weights = sampling_correction(p.log()[None], q.log()[None], torch.ones(1, 3).bool(), "token", 100.0).weights[0]
    assert (q * weights * f).sum().item() == pytest.approx((p * f).sum().item())


def test_a_wild_ratio_stays_finite() -> None:
    far, zero, mask = torch.full((1, 4), 90.0), torch.zeros(1, 4), torch.ones(1, 4).bool()
    assert sampling_correction(far, zero, mask, "sequence", 3.0).weights.tolist() == [[3, 3, 3, 3]]
    assert sampling_correction(far, zero, mask, "token", 3.0).ratio.isfinite().all()


def test_effective_samples_do_not_depend_on_the_scale_of_the_weights() -> None:
    weights, mask = torch.tensor([[1.0, 3.0]]), torch.ones(1, 2).bool()
    for scale in (1.0, 1e-4, 1e4):
        assert effective_sample_share(scale * weights, mask).item() == pytest.approx(16 / 20)


def test_effective_samples() -> None:
    mask = torch.tensor([[True, True, False]])
    assert effective_sample_share(torch.tensor([[2.0, 2.0, 9.0]]), mask).item() == pytest.approx(1)
    assert effective_sample_share(torch.tensor([[1.0, 0.0, 9.0]]), mask).item() == pytest.approx(0.5)
    assert effective_sample_share(torch.tensor([[1.0, 3.0, math.nan]]), mask).item() == pytest.approx(16 / 20)
    assert effective_sample_share(torch.ones(1, 3), torch.zeros(1, 3).bool()).item() == 0


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_what_lies_too_far_off_is_dropped_on_both_sides(level: str) -> None:
    old, sampled, mask = samples()
    found = sampling_correction(old, sampled, mask, level, 1.5, "drop")  # type: ignore[arg-type]
    near = mask & (found.ratio <= 1.5) & (found.ratio >= 1 / 1.5)
    assert torch.equal(found.weights[near], found.ratio[near])
    assert (found.weights[~near] == 0).all()
    assert near.any()
    assert (mask & (found.ratio > 1.5)).any()
    assert (mask & (found.ratio < 1 / 1.5)).any()
    assert torch.equal(found.ratio, sampling_correction(old, sampled, mask, level, 1.5).ratio)  # type: ignore[arg-type]


def test_a_ratio_on_the_bound_stays() -> None:
    old, mask = torch.tensor([[2.0, 0.5]]).double().log(), torch.ones(1, 2).bool()
    found = sampling_correction(old, torch.zeros(1, 2).double(), mask, "token", old.exp()[0, 0].item(), "drop")
    assert found.weights[0].tolist() == pytest.approx([2.0, 0.5])


def test_chi_square() -> None:
    """By its definition, the sum of (p - q)^2 / q, on samples that appear as often as q says; then by hand."""
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    drawn = torch.tensor([0] * 2 + [1] * 5 + [2] * 3)
    found = chi_square((p / q)[drawn][None], torch.ones(1, 10).bool())
    assert found.item() == pytest.approx(((p - q).square() / q).sum().item())
    mask = torch.tensor([[True, True, False]])
    assert chi_square(torch.tensor([[2.0, 1.0, math.nan]]), mask).item() == pytest.approx(1.5)
    assert chi_square(torch.tensor([[2.0]]), torch.ones(1, 1).bool()).item() == pytest.approx(3)
    assert chi_square(torch.ones(1, 3), torch.zeros(1, 3).bool()).item() == 0
