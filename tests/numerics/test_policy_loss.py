"""The clipped surrogate and CISPO: by hand, by a loop, by relation, by gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf.functional.policy_loss import (
    cispo_loss,
    clipped_policy_loss,
    has_drifted,
    policy_gradient_loss,
    policy_log_ratio,
)

NAN = math.nan


def experience(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probs, old log-probs, advantages, mask; ratios spread well beyond the clips."""
    generator = torch.Generator().manual_seed(seed)
    logprobs, old, advantages = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 8, generator=generator) < 0.7
    mask[1] = False
    return logprobs * 0.7, old * 0.7, advantages, mask


def one(ratio: float, advantage: float, dual_clip: float | None = None) -> tuple[float, float]:
    """(loss, gradient with respect to the log-prob) of one token with clips 0.2 and 0.4."""
    logprob = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    zero, advantages = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[advantage]], dtype=torch.float64)
    out = clipped_policy_loss(logprob, zero, advantages, torch.ones(1, 1, dtype=torch.bool), 0.2, 0.4, dual_clip)
    out.losses.sum().backward()
    assert logprob.grad is not None
    return out.losses.item(), logprob.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.3, 2.0, -2.6, -2.6),  # inside the higher bound
        (1.5, 2.0, -2.8, 0.0),  # good and already likely enough
        (0.5, 2.0, -1.0, -1.0),  # good but made unlikely: free to come back
        (0.9, -2.0, 1.8, 1.8),
        (0.5, -2.0, 1.6, 0.0),  # bad and already unlikely enough
        (5.0, -2.0, 10.0, 10.0),  # bad but made likely: no bound without dual clip
    ],
)
def test_by_hand(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    assert one(ratio, advantage) == pytest.approx((loss, gradient))


def test_dual_clip_bounds_bad_tokens_only() -> None:
    assert one(5.0, -2.0, dual_clip=3.0) == pytest.approx((6.0, 0.0))
    assert one(2.0, -2.0, dual_clip=3.0) == pytest.approx((4.0, 4.0))
    assert one(5.0, 2.0, dual_clip=3.0) == pytest.approx((-2.8, 0.0))
    assert one(0.5, -2.0, dual_clip=3.0) == pytest.approx((1.6, 0.0))


@pytest.mark.parametrize("dual_clip", [None, 2.0])
def test_by_definition(dual_clip: float | None) -> None:
    logprobs, old, advantages, mask = experience()
    out = clipped_policy_loss(logprobs, old, advantages, mask, 0.2, 0.3, dual_clip)
    for b in range(6):
        for t in range(8):
            a, x = advantages[b, t].item(), (logprobs[b, t] - old[b, t]).item()
            w = math.exp(x)
            loss = max(-a * w, -a * min(max(w, 0.8), 1.3))
            if dual_clip is not None and a < 0:
                loss = min(loss, -a * dual_clip)
            on = bool(mask[b, t])
            assert out.losses[b, t].item() == pytest.approx(loss if on else 0)
            assert out.ratio[b, t].item() == pytest.approx(w if on else 1)
            assert out.clipped_low[b, t].item() == (on and a < 0 and w < 0.8)
            assert out.clipped_high[b, t].item() == (on and a > 0 and w > 1.3)
            assert out.dual_clipped[b, t].item() == (on and dual_clip is not None and a < 0 and w > dual_clip)
            assert out.approx_kl[b, t].item() == pytest.approx(w - 1 - x if on else 0)
    assert out.clipped_low.any()
    assert out.clipped_high.any()
    assert out.dual_clipped.any() == (dual_clip is not None)


def test_flagged_tokens_are_exactly_those_without_a_gradient() -> None:
    logprobs, old, advantages, mask = experience()
    logprobs.requires_grad_()
    out = clipped_policy_loss(logprobs, old, advantages, mask, 0.2, 0.3, 2.0)
    out.losses.sum().backward()
    assert logprobs.grad is not None
    assert torch.equal(out.clipped_low | out.clipped_high | out.dual_clipped, (logprobs.grad == 0) & mask)


def test_on_policy_it_is_the_policy_gradient() -> None:
    logprobs, _, advantages, mask = experience()
    gradients = []
    for loss in (
        lambda x: clipped_policy_loss(x, logprobs, advantages, mask, 0.2, 0.2).losses,
        lambda x: policy_gradient_loss(x, advantages, mask),
    ):
        x = logprobs.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(x).sum(), x)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], torch.where(mask, -advantages, 0))


def test_padding_cannot_leak_into_value_or_gradient() -> None:
    clean = experience()
    mask = clean[3]
    dirty = [torch.where(mask, x, NAN) for x in clean[:3]]
    results = []
    for logprobs, old, advantages in (clean[:3], dirty):
        x = logprobs.clone().requires_grad_()
        out = clipped_policy_loss(x, old, advantages, mask, 0.2, 0.3, 2.0)
        plain = policy_gradient_loss(x, advantages, mask)
        (out.losses.sum() + plain.sum()).backward()
        results.append([*out, plain, x.grad])
    for ours, as_dirty in zip(*results, strict=True):
        assert torch.equal(ours, as_dirty)
    assert (results[0][0][~mask] == 0).all()
    assert (results[0][-1][~mask] == 0).all()


def test_a_wild_ratio_stays_finite() -> None:
    logprobs = torch.tensor([[500.0, -500.0]], requires_grad=True)
    out = clipped_policy_loss(logprobs, torch.zeros(1, 2), -torch.ones(1, 2), torch.ones(1, 2).bool(), 0.2, 0.2)
    assert out.losses[0].tolist() == pytest.approx([math.exp(20), 0.8], rel=1e-4)
    out.losses.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.isfinite().all()


def test_only_the_losses_carry_a_gradient() -> None:
    logprobs, old, advantages, mask = experience()
    out = clipped_policy_loss(logprobs.requires_grad_(), old, advantages, mask, 0.2, 0.2)
    assert [name for name, value in out._asdict().items() if value.requires_grad] == ["losses"]
    baseline = advantages.clone().requires_grad_()
    policy_gradient_loss(logprobs, baseline, mask).sum().backward()
    assert baseline.grad is None


def test_gradients() -> None:
    logprobs, old, advantages, mask = experience()
    logprobs.requires_grad_()
    for dual_clip in (None, 2.0):
        assert torch.autograd.gradcheck(
            lambda x, c=dual_clip: clipped_policy_loss(x, old, advantages, mask, 0.2, 0.3, c).losses, logprobs
        )
    assert torch.autograd.gradcheck(lambda x: policy_gradient_loss(x, advantages, mask), logprobs)


def test_a_token_on_a_bound_or_without_advantage_is_not_flagged() -> None:
    at_one, mask = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
    out = clipped_policy_loss(at_one, at_one, torch.tensor([[1.0, -1.0]]), mask, 0.0, 0.0, 1.0)
    assert not (out.clipped_low | out.clipped_high | out.dual_clipped).any()
    far = torch.tensor([[2.0, -2.0]])
    out = clipped_policy_loss(far, at_one, torch.zeros(1, 2), mask, 0.2, 0.2, 3.0)
    assert not (out.clipped_low | out.clipped_high | out.dual_clipped).any()


# --- ratios of whole rows --------------------------------------------------------------------------------------------

LEVELS = ("token", "sequence_mean", "sequence_product")


def test_ratios_by_hand() -> None:
    logprobs, old = torch.tensor([[0.1, 0.3, 9.0]]), torch.tensor([[0.0, 0.1, 0.0]])
    mask = torch.tensor([[True, True, False]])
    expected = {"token": [0.1, 0.2, 0], "sequence_mean": [0.15, 0.15, 0], "sequence_product": [0.3, 0.3, 0]}
    for level, values in expected.items():
        assert policy_log_ratio(logprobs, old, mask, level)[0].tolist() == pytest.approx(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS[1:])
def test_ratios_of_rows_by_definition(level: str) -> None:
    logprobs, old, advantages, mask = experience()
    out = clipped_policy_loss(logprobs, old, advantages, mask, 0.2, 0.3, 2.0, level)  # type: ignore[arg-type]
    for b in range(6):
        xs = [(logprobs[b, t] - old[b, t]).item() for t in range(8) if mask[b, t]]
        x = sum(xs) / (len(xs) if level == "sequence_mean" else 1) if xs else 0.0
        w = math.exp(x)
        for t in range(8):
            a = advantages[b, t].item()
            loss = max(-a * w, -a * min(max(w, 0.8), 1.3))
            loss = min(loss, -a * 2.0) if a < 0 else loss
            assert out.losses[b, t].item() == pytest.approx(loss if mask[b, t] else 0)
            assert out.ratio[b, t].item() == pytest.approx(w if mask[b, t] else 1)


def test_gspo_is_the_mean_over_rows_of_the_clipped_geometric_mean() -> None:
    """Equation 5 of the paper, which knows no tokens, and its gradient."""
    logprobs, old, _, mask = experience()
    advantages_B = torch.tensor([1.0, 0.5, -1.0, 2.0, -0.3, 0.7], dtype=torch.float64)
    x = logprobs.clone().requires_grad_()
    advantages = advantages_B.unsqueeze(1).expand_as(mask)
    losses = clipped_policy_loss(x, old, advantages, mask, 0.2, 0.3, level="sequence_mean").losses
    lengths_B = mask.sum(1).clamp(min=1)
    mine = (torch.where(mask, losses, 0).sum(1) / lengths_B).sum()
    (gradient,) = torch.autograd.grad(mine, x)
    y = logprobs.clone().requires_grad_()
    s_B = (torch.where(mask, y - old, 0).sum(1) / lengths_B).exp()
    terms_B = torch.minimum(s_B * advantages_B, s_B.clamp(0.8, 1.3) * advantages_B)
    theirs = -torch.where(mask.any(1), terms_B, 0).sum()
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, y)[0])


def test_the_three_ratios_agree_on_rows_of_one_token() -> None:
    logprobs, old, advantages, _ = experience()
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[:, 3] = True
    first, *others = (clipped_policy_loss(logprobs, old, advantages, mask, 0.2, 0.3, None, level) for level in LEVELS)  # type: ignore[arg-type]
    for other in others:
        for one_tensor, other_tensor in zip(first, other, strict=True):
            torch.testing.assert_close(one_tensor, other_tensor)


@pytest.mark.parametrize("level", LEVELS)
def test_padding_cannot_leak_into_ratios_of_rows(level: str) -> None:
    logprobs, old, advantages, mask = experience()
    dirty = [torch.where(mask, x, NAN) for x in (logprobs, old, advantages)]
    results = []
    for tensors in ((logprobs, old, advantages), dirty):
        x = tensors[0].clone().requires_grad_()
        outs = [loss(x, *tensors[1:], mask, 0.2, 0.3, level=level) for loss in (clipped_policy_loss, cispo_loss)]  # type: ignore[operator]
        (outs[0].losses.sum() + outs[1].losses.sum()).backward()
        results.append([*outs[0], *outs[1], x.grad])
    for ours, as_dirty in zip(*results, strict=True):
        assert torch.equal(ours, as_dirty)


def test_a_wild_product_stays_finite() -> None:
    logprobs = torch.full((1, 8), 15.0, requires_grad=True)
    out = clipped_policy_loss(
        logprobs, torch.zeros(1, 8), -torch.ones(1, 8), torch.ones(1, 8).bool(), 0.2, 0.2, level="sequence_product"
    )
    assert out.losses.tolist() == [pytest.approx([math.exp(20)] * 8, rel=1e-4)]
    far, mask = torch.full((1, 8), 15.0), torch.ones(1, 8).bool()
    assert policy_log_ratio(far, 0 * far, mask, "sequence_product").tolist() == [[20.0] * 8]
    assert policy_log_ratio(-far, 0 * far, mask, "sequence_product").tolist() == [[-20.0] * 8]


def test_gradients_of_ratios_of_rows() -> None:
    logprobs, old, advantages, mask = experience()
    logprobs.requires_grad_()
    for level in LEVELS[1:]:
        assert torch.autograd.gradcheck(
            lambda x, c=level: clipped_policy_loss(x, old, advantages, mask, 0.2, 0.3, 2.0, c).losses, logprobs
        )


# --- CISPO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight"),
    [(1.0, 2.0, 1.0), (1.3, 2.0, 1.3), (1.5, 2.0, 1.4), (1.5, -2.0, 1.4), (0.9, 2.0, 0.9), (0.5, -2.0, 0.8)],
)
def test_cispo_by_hand(ratio: float, advantage: float, weight: float) -> None:
    """Beyond the bounds the token keeps its gradient; only its weight is held."""
    logprob = torch.tensor([[math.log(ratio) - 1.0]], dtype=torch.float64, requires_grad=True)
    old, advantages = torch.full((1, 1), -1.0).double(), torch.tensor([[advantage]], dtype=torch.float64)
    out = cispo_loss(logprob, old, advantages, torch.ones(1, 1, dtype=torch.bool), 0.2, 0.4)
    out.losses.sum().backward()
    assert logprob.grad is not None
    assert logprob.grad.item() == pytest.approx(-weight * advantage)
    assert out.losses.item() == pytest.approx(-weight * advantage * (math.log(ratio) - 1.0))
    assert out.clipped_low.item() == (ratio < 0.8)
    assert out.clipped_high.item() == (ratio > 1.4)


def test_a_weight_of_cispo_on_the_bound_is_not_counted_as_cut() -> None:
    ratio = torch.tensor([[0.5, 1.0, 1.5]], dtype=torch.float64)
    assert ratio.log().exp().tolist() == ratio.tolist()
    ones = torch.ones_like(ratio)
    out = cispo_loss(ratio.log(), 0 * ones, ones, ones > 0, 0.5, 0.5)
    assert not out.clipped_low.any()
    assert not out.clipped_high.any()


def test_cispo_by_definition() -> None:
    logprobs, old, advantages, mask = experience()
    out = cispo_loss(logprobs, old, advantages, mask, 1.0, 0.3)
    for b in range(6):
        for t in range(8):
            w = math.exp((logprobs[b, t] - old[b, t]).item())
            loss = -min(w, 1.3) * advantages[b, t].item() * logprobs[b, t].item()
            assert out.losses[b, t].item() == pytest.approx(loss if mask[b, t] else 0)
            assert out.ratio[b, t].item() == pytest.approx(w if mask[b, t] else 1)
            assert out.clipped_high[b, t].item() == (bool(mask[b, t]) and w > 1.3)
            assert out.approx_kl[b, t].item() == pytest.approx(w - 1 - math.log(w) if mask[b, t] else 0)
    assert not out.clipped_low.any()
    assert not out.dual_clipped.any()


def test_on_policy_cispo_is_the_policy_gradient() -> None:
    logprobs, _, advantages, mask = experience()
    x = logprobs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cispo_loss(x, logprobs, advantages, mask, 0.2, 0.2).losses.sum(), x)
    torch.testing.assert_close(gradient, torch.where(mask, -advantages, 0))


def test_cispo_weights_are_constants() -> None:
    """The gradient is that of A log pi at fixed weights, not that of the product."""
    logprobs, old, advantages, mask = experience()
    logprobs.requires_grad_()
    weights = (logprobs - old).exp().clamp(0.8, 1.3).detach()
    (gradient,) = torch.autograd.grad(cispo_loss(logprobs, old, advantages, mask, 0.2, 0.3).losses.sum(), logprobs)
    torch.testing.assert_close(gradient, torch.where(mask, -advantages * weights, 0))


def test_gradient_of_cispo_where_every_weight_is_held() -> None:
    logprobs, _, advantages, mask = experience()
    far = logprobs.detach() - 3.0
    assert torch.autograd.gradcheck(
        lambda x: cispo_loss(x, far, advantages, mask, 0.2, 0.3).losses, logprobs.clone().requires_grad_()
    )


def test_drifted_rows_by_definition() -> None:
    logprobs, old, advantages, mask = experience()
    found = has_drifted(logprobs, old, advantages, mask, 0.1)
    for b in range(len(mask)):
        drifts = [(old[b, t] - logprobs[b, t]).item() for t in range(8) if mask[b, t]]
        for t in range(8):
            expected = bool(mask[b, t]) and advantages[b, t] < 0 and sum(drifts) / len(drifts) > 0.1
            assert found[b, t].item() == expected
    assert found.any()
    assert (mask & (advantages < 0) & ~found).any()


def test_drift_is_a_mean_a_token_and_its_bound_belongs_to_those_kept() -> None:
    old, mask = torch.zeros(2, 4), torch.tensor([[True, True, False, False], [True] * 4])
    bad = -torch.ones(2, 4)
    logprobs = torch.tensor([[-0.5, -0.5, -9.0, -9.0], [-0.5] * 4])
    assert torch.equal(has_drifted(logprobs, old, bad, mask, 0.25), mask)
    assert not has_drifted(logprobs, old, bad, mask, 0.5).any()
    assert not has_drifted(logprobs, old, -bad, mask, 0.25).any()
    assert not has_drifted(logprobs, old, 0 * bad, mask, 0.25).any()
    assert not has_drifted(-logprobs, old, bad, mask, 0.25).any()
