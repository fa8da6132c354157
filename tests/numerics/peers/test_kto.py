"""KTO against TRL's `KTOTrainer._compute_loss`, forward and gradient, on the same token log-probs and pairing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.kto import KTO, KTOConfig, with_others_completions
from rlhf.types import LabelledBatch, PolicyOutput, TokenBatch
from tests.numerics.peers.trl_stand_in import GivenLogprobs, inputs, random_rows, trainer

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")

ROWS = 8
LABELS = torch.tensor([True, False, False, True, True, False, True, True])


class TwoAnswers(GivenLogprobs):
    """Answers for the rows themselves, and without gradient for the mismatched ones, told apart by their tokens."""

    def __init__(self, logprobs: Tensor, mismatched: TokenBatch, of_mismatched: Tensor) -> None:
        super().__init__(logprobs)
        self.mismatched, self.other = mismatched.tokens, GivenLogprobs(of_mismatched)

    def forward(self, input_ids: Tensor, labels: Tensor, **rest: object) -> SimpleNamespace:
        if torch.equal(input_ids, self.mismatched):
            return self.other(labels)
        return super().forward(labels)


class Engine:
    """The same two answers as an engine of ours gives them."""

    def __init__(self, mismatched: TokenBatch, logprobs: Tensor, of_mismatched: Tensor) -> None:
        self.mismatched, self.logprobs, self.of_mismatched = mismatched.tokens, logprobs, of_mismatched

    def forward(self, batch: TokenBatch) -> PolicyOutput:
        logprobs = self.of_mismatched if torch.equal(batch.tokens, self.mismatched) else self.logprobs
        return PolicyOutput(logprobs=logprobs, entropy=torch.zeros_like(logprobs))


def random_case(drift: float) -> dict[str, Any]:
    rows, logprobs = random_rows(ROWS)
    mismatched = with_others_completions(rows)
    ref = -torch.rand_like(logprobs) * 3
    others_ref = -torch.rand_like(logprobs) * 3
    return {
        "rows": rows,
        "mismatched": mismatched,
        "policy": (logprobs, others_ref + drift * torch.rand_like(logprobs)),
        "reference": (ref, others_ref),
    }


def theirs(case: dict[str, Any], config: KTOConfig, label_B: Tensor = LABELS) -> tuple[Tensor, Tensor, float]:
    from trl.trainer.kto_trainer import KTOTrainer

    rows, mismatched = case["rows"], case["mismatched"]
    model, reference = (TwoAnswers(own, mismatched, other) for own, other in (case["policy"], case["reference"]))
    surroundings = trainer(
        model,
        ref_model=reference,
        calculate_KL=True,
        precompute_ref_logps=False,
        loss_type="kto",
        beta=config.beta,
        desirable_weight=config.desirable_weight,
        undesirable_weight=config.undesirable_weight,
    )
    surroundings._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(surroundings, model, batch)
    batch = {**inputs(rows), **{f"KL_{name}": value for name, value in inputs(mismatched).items()}, "label": label_B}
    loss = KTOTrainer._compute_loss(surroundings, model, batch, return_outputs=False)
    loss.backward()
    assert model.logprobs.grad is not None
    return loss.detach(), model.logprobs.grad, surroundings._metrics["train"]["kl"][0]


def ours(case: dict[str, Any], config: KTOConfig) -> tuple[Tensor, Tensor, float]:
    policy, reference = (Engine(case["mismatched"], *case[role]) for role in ("policy", "reference"))
    run: Any = SimpleNamespace(policy=policy, reference=reference)
    method = KTO(config)
    batch = method.prepared(run, LabelledBatch(**dict(case["rows"].tensors()), label_B=LABELS))
    assert batch.kl_B is not None
    leaf = case["policy"][0].clone().requires_grad_()
    found = method.loss(PolicyOutput(logprobs=leaf, entropy=torch.zeros_like(leaf)), batch)
    loss = found.total / method.loss.count(batch)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad, float(batch.kl_B[0])


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.4)])
@pytest.mark.parametrize("drift", [1.0, -1.0], ids=["kl", "kl_cut_at_zero"])
def test_loss_and_gradient(drift: float, weights: tuple[float, float]) -> None:
    case = random_case(drift)
    config = KTOConfig(beta=0.3, desirable_weight=weights[0], undesirable_weight=weights[1])
    expected, got = theirs(case, config), ours(case, config)
    for mine, value in zip(got[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine, value, atol=1e-5, rtol=1e-5)
    assert got[2] == pytest.approx(expected[2], abs=1e-5)
    assert (got[2] > 0.1) == (drift > 0)
    assert expected[1].abs().max() > 1e-3


def test_the_pairing_is_theirs() -> None:
    """TRL turns the completions of a batch by one before it tokenises; we turn their tokens."""
    rows, _ = random_rows(ROWS)
    others = with_others_completions(rows)
    prompts, completions = [], []
    for r in range(ROWS):
        prompts.append(rows.tokens[r][rows.attention_mask[r] & ~rows.response_mask[r]].tolist())
        completions.append(rows.tokens[r][rows.response_mask[r]].tolist())
    turned = [completions[-1], *completions[:-1]]
    for r in range(ROWS):
        whole = (prompts[r] + turned[r])[: rows.tokens.shape[1]]
        assert others.tokens[r][others.attention_mask[r]].tolist() == whole
        assert others.tokens[r][others.response_mask[r]].tolist() == whole[len(prompts[r]) :]


def test_theirs_depends_on_how_a_batch_is_cut_and_ours_does_not() -> None:
    """TRL estimates the KL in each forward pass from that pass's rows and cuts it at zero there, so that two halves of
    a batch, accumulated, are another loss than the batch. Ours takes it once, from the global batch, as equation 7 of
    the paper has one reference point for all.
    """
    case = random_case(1.0)
    config = KTOConfig(beta=0.3)
    halves = (slice(0, ROWS // 2), slice(ROWS // 2, ROWS))
    whole, in_pieces = theirs(case, config)[0], [theirs(_part(case, half), config, LABELS[half])[0] for half in halves]
    assert abs(sum(in_pieces) / 2 - whole) > 1e-3
    run: Any = SimpleNamespace(**{role: Engine(case["mismatched"], *case[role]) for role in ("policy", "reference")})
    method = KTO(config)
    batch = method.prepared(run, LabelledBatch(**dict(case["rows"].tensors()), label_B=LABELS))
    logprobs = case["policy"][0]
    sums = [
        method.loss(PolicyOutput(logprobs=logprobs[half], entropy=logprobs[half]), batch[half]).total for half in halves
    ]
    torch.testing.assert_close(sum(sums) / ROWS, whole, atol=1e-5, rtol=1e-5)


def _part(case: dict[str, Any], rows: slice) -> dict[str, Any]:
    models = {role: tuple(logprobs[rows] for logprobs in case[role]) for role in ("policy", "reference")}
    return {"rows": case["rows"][rows], "mismatched": case["mismatched"][rows], **models}
