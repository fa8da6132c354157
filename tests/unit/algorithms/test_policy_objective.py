"""The loss of a policy-gradient step: each term by hand, and that neither padding nor the cut of a batch matters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.policy_objective import PolicyLoss, TokenWeights
from rlhf.functional.aggregation import prompt_mean
from rlhf.functional.policy_loss import clipped_policy_loss, has_drifted
from rlhf.types import Experience, PolicyOutput

NAN = math.nan
MODES = ("token_mean", "sequence_mean", "sequence_sum", "prompt_mean")
GROUPS = torch.tensor([0, 0, 1, 2, 1, 2])


def experience(seed: int = 0) -> tuple[Experience, PolicyOutput]:
    """Six rows; the last of them blank."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 9, generator=generator) < 0.7
    mask[5] = False

    def draw(scale: float) -> Tensor:
        return torch.where(mask, scale * torch.randn(6, 9, generator=generator, dtype=torch.float64), 0)

    batch = Experience(
        tokens=torch.ones(6, 9, dtype=torch.long),
        attention_mask=mask,
        response_mask=mask,
        old_logprobs=draw(0.4),
        advantages=draw(1.0),
        ref_logprobs=draw(0.4),
        correction=draw(0.2).exp(),
        loss_weights=prompt_mean(mask, GROUPS)[0],
    )
    return batch, PolicyOutput(logprobs=draw(0.4), entropy=draw(1.0).abs())


def loss_of(mode: str = "token_mean", **options: Any) -> PolicyLoss:
    return PolicyLoss(clip_low=0.2, clip_high=0.3, weights=TokenWeights(mode, 16), **options)  # type: ignore[arg-type]


EVERYTHING = {"kl_coef": 0.3, "entropy_coef": 0.1, "dual_clip": 2.0}


def one(loss: PolicyLoss, *, logprob: float, advantage: float = 1.0, **fields: float) -> tuple[float, float]:
    """Value and gradient at one token, whose old log-prob is -1 and whose entropy is 0.5."""

    def tensor(value: float) -> Tensor:
        return torch.tensor([[value]], dtype=torch.float64)

    batch = Experience(
        tokens=torch.ones(1, 1, dtype=torch.long),
        attention_mask=torch.ones(1, 1, dtype=torch.bool),
        response_mask=torch.ones(1, 1, dtype=torch.bool),
        old_logprobs=tensor(-1.0),
        advantages=tensor(advantage),
        **{name: tensor(value) for name, value in fields.items()},
    )
    x = tensor(logprob).requires_grad_()
    total = loss(PolicyOutput(logprobs=x, entropy=tensor(0.5)), batch).total
    (gradient,) = torch.autograd.grad(total, x)
    return total.item(), gradient.item()


def test_each_term_by_hand() -> None:
    surrogate = -math.exp(0.1)
    assert one(loss_of(), logprob=-0.9) == pytest.approx((surrogate, surrogate))
    assert one(loss_of(), logprob=-0.9, correction=0.5) == pytest.approx((surrogate / 2, surrogate / 2))
    assert one(loss_of(entropy_coef=0.1), logprob=-0.9)[0] == pytest.approx(surrogate - 0.05)
    k2 = one(loss_of(kl_coef=0.3, kl_estimator="k2"), logprob=-0.9, ref_logprobs=-1.5)
    assert k2 == pytest.approx((surrogate + 0.3 * 0.18, surrogate + 0.3 * 0.6))
    k3 = one(loss_of(kl_coef=0.3), logprob=-0.9, ref_logprobs=-1.5)
    assert k3 == pytest.approx((surrogate + 0.3 * (math.exp(-0.6) - 0.4), surrogate + 0.3 * (1 - math.exp(-0.6))))
    assert one(loss_of(dual_clip=3.0), logprob=1.0, advantage=-1.0) == pytest.approx((3.0, 0.0))
    assert one(loss_of(surrogate="cispo"), logprob=-0.5)[1] == pytest.approx(-1.3)


@pytest.mark.parametrize(
    ("ratio", "weights"),
    [
        ("token", [math.exp(0.1), math.exp(-0.3)]),
        ("sequence_mean", [math.exp(-0.1)] * 2),
        ("sequence_product", [math.exp(-0.2)] * 2),
    ],
)
def test_the_weights_of_cispo_are_of_tokens_or_of_rows(ratio: str, weights: list[float]) -> None:
    """The log-ratios of a row are 0.1 and -0.3; a token's gradient is its weight."""
    ones = torch.ones(1, 2, dtype=torch.float64)
    batch = Experience(
        tokens=ones.long(), attention_mask=ones > 0, response_mask=ones > 0, old_logprobs=-ones, advantages=ones
    )
    x = torch.tensor([[-0.9, -1.3]], dtype=torch.float64, requires_grad=True)
    loss = PolicyLoss(clip_low=0.9, clip_high=0.9, surrogate="cispo", ratio=ratio)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss(PolicyOutput(logprobs=x, entropy=ones), batch).total, x)
    assert gradient[0].tolist() == pytest.approx([-weight for weight in weights])


def test_the_correction_weighs_the_surrogate_and_not_the_kl() -> None:
    loss = loss_of(kl_coef=0.3)
    with_it = one(loss, logprob=-0.9, ref_logprobs=-1.5, correction=0.5)[0]
    without = one(loss, logprob=-0.9, ref_logprobs=-1.5)[0]
    assert without - with_it == pytest.approx(-math.exp(0.1) / 2)


@pytest.mark.parametrize("mode", MODES)
def test_modes_by_definition(mode: str) -> None:
    batch, output = experience()
    loss = loss_of(mode)
    rows = [torch.arange(9)[batch.response_mask[b]].tolist() for b in range(6)]

    def term(b: int, t: int) -> float:
        w, a = math.exp((output.logprobs - batch.old_logprobs)[b, t].item()), batch.advantages[b, t].item()
        assert batch.correction is not None
        return max(-a * w, -a * min(max(w, 0.8), 1.3)) * batch.correction[b, t].item()

    sums = [sum(term(b, t) for t in rows[b]) for b in range(6)]
    full = [b for b in range(6) if rows[b]]
    prompts = [[b for b in full if GROUPS[b] == g] for g in (0, 1, 2)]
    expected = {
        "token_mean": sum(sums) / sum(len(row) for row in rows),
        "sequence_mean": sum(sums[b] / len(rows[b]) for b in full) / len(full),
        "sequence_sum": sum(sums[b] / 16 for b in full) / len(full),
        "prompt_mean": sum(sum(sums[b] for b in p) / sum(len(rows[b]) for b in p) for p in prompts) / 3,
    }
    assert loss(output, batch).total.item() / loss.count(batch) == pytest.approx(expected[mode])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_pieces_add_up_to_the_whole(mode: str, size: int) -> None:
    batch, output = experience()
    loss = loss_of(mode, **EVERYTHING)
    whole = loss(output, batch)
    order = torch.randperm(6)
    pieces = []
    for rows in order.split(size):
        piece = PolicyOutput(logprobs=output.logprobs[rows], entropy=output.entropy[rows])
        pieces.append(loss(piece, batch[rows]))
    torch.testing.assert_close(sum(piece.total for piece in pieces), whole.total)
    for name, (total, count) in whole.sums.items():
        torch.testing.assert_close(sum(piece.sums[name][0] for piece in pieces), total)
        assert sum(piece.sums[name][1] for piece in pieces) == count
    counts = [loss.count(batch[rows]) for rows in order.split(size)]
    assert sum(counts) == pytest.approx(loss.count(batch))


@pytest.mark.parametrize("mode", MODES)
def test_a_blank_row_adds_nothing(mode: str) -> None:
    batch, output = experience()
    loss = loss_of(mode, **EVERYTHING)
    found = loss(PolicyOutput(logprobs=output.logprobs[5:], entropy=output.entropy[5:]), batch[5:])
    assert found.total.item() == 0
    assert all(total == 0 and count == 0 for total, count in found.sums.values())
    assert loss.count(batch[:5]) == loss.count(batch)


@pytest.mark.parametrize("surrogate", ["clip", "cispo"])
@pytest.mark.parametrize("ratio", ["token", "sequence_mean", "sequence_product"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_outside_the_mask_cannot_matter(mode: str, ratio: str, surrogate: str) -> None:
    batch, output = experience()
    loss = loss_of(mode, ratio=ratio, surrogate=surrogate, **EVERYTHING)
    mask = batch.response_mask
    floats = {name: value for name, value in batch.tensors() if value.dtype.is_floating_point}
    dirty = replace(batch, **{name: torch.where(mask, value, NAN) for name, value in floats.items()})
    results = []
    for given, outside in ((batch, 0.0), (dirty, NAN)):
        x = torch.where(mask, output.logprobs, outside).requires_grad_()
        entropy = torch.where(mask, output.entropy, outside).requires_grad_()
        found = loss(PolicyOutput(logprobs=x, entropy=entropy), given)
        results.append([found.total, *torch.autograd.grad(found.total, (x, entropy))])
        results[-1] += [number for pair in found.sums.values() for number in pair]
        assert loss.count(given) == loss.count(batch)
    for clean, as_dirty in zip(*results, strict=True):
        assert torch.equal(clean, as_dirty)


@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode: str) -> None:
    batch, output = experience()
    loss = loss_of(mode, **EVERYTHING)
    x, entropy = output.logprobs.clone().requires_grad_(), output.entropy.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(PolicyOutput(logprobs=a, entropy=b), batch).total, (x, entropy))


def test_the_figures() -> None:
    batch, output = experience()
    found = loss_of(**EVERYTHING)(output, batch)
    w = (output.logprobs - batch.old_logprobs).exp()
    mask, a = batch.response_mask, batch.advantages
    expected = {
        "policy/clip_fraction_low": (mask & (a < 0) & (w < 0.8)).sum(),
        "policy/clip_fraction_high": (mask & (a > 0) & (w > 1.3)).sum(),
        "policy/clip_fraction_dual": (mask & (a < 0) & (w > 2.0)).sum(),
        "policy/entropy": output.entropy.sum(),
        "policy/approx_kl": (w - 1 - w.log()).sum(),
    }
    assert batch.ref_logprobs is not None
    x = output.logprobs - batch.ref_logprobs
    expected["policy/kl_loss"] = ((-x).exp() - 1 + x).sum()
    assert found.sums.keys() == expected.keys()
    for name, value in expected.items():
        assert found.sums[name][0].item() == pytest.approx(value.item()), name
        assert not found.sums[name][0].requires_grad
        assert found.sums[name][1] == mask.sum()
    assert loss_of(entropy_coef=0.1).entropy_grad
    assert not loss_of().entropy_grad
    assert not loss_of()(output, batch).sums.keys() & {"policy/kl_loss", "policy/clip_fraction_dual"}


def test_prompt_weights_must_come_with_the_batch() -> None:
    batch, _ = experience()
    with pytest.raises(ValueError, match="prompt_mean"):
        loss_of("prompt_mean").count(replace(batch, loss_weights=None))


def test_drifted_tokens_have_no_surrogate_but_keep_their_place_and_their_kl() -> None:
    batch, output = experience()
    batch = replace(batch, correction=None)
    plain, left_out = loss_of(kl_coef=0.3), loss_of(kl_coef=0.3, max_drift=0.05)
    drifted = has_drifted(output.logprobs, batch.old_logprobs, batch.advantages, batch.response_mask, 0.05)
    surrogate = clipped_policy_loss(
        output.logprobs, batch.old_logprobs, batch.advantages, batch.response_mask, 0.2, 0.3
    ).losses
    found = left_out(output, batch)
    assert (plain(output, batch).total - found.total).item() == pytest.approx(surrogate[drifted].sum().item())
    assert drifted.any()
    assert left_out.count(batch) == plain.count(batch)
    assert [float(part) for part in found.sums["policy/drifted"]] == [drifted.sum(), batch.response_mask.sum()]
    assert "policy/drifted" not in plain(output, batch).sums
