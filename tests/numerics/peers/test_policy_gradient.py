"""The policy-gradient losses against TRL's `GRPOTrainer` and `RLOOTrainer` on the same tensors, value and gradient."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.policy_objective import PolicyLoss, TokenWeights
from rlhf.types import Experience, PolicyOutput

pytest.importorskip("trl", reason="the peer is a test-only extra: pip install 'rlhf[peers]'")

B, T, MAX_LENGTH = 6, 9, 12
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def samples(blank: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Rows of several lengths; ratios well beyond the clips."""
    generator = torch.Generator().manual_seed(seed)
    lengths_B = torch.tensor([9, 1, 4, 7, 2, 5])
    if blank is not None:
        lengths_B[blank] = 0
    mask = torch.arange(T) < lengths_B[:, None]

    def draw(scale: float) -> Tensor:
        return -1.5 + scale * torch.randn(B, T, generator=generator)

    return {
        "mask": mask,
        "logprobs": draw(0.5),
        "old": draw(0.5),
        "ref": draw(0.5),
        "advantages_B": torch.randn(B, generator=generator),
        "correction": (0.3 * torch.randn(B, T, generator=generator)).exp(),
    }


def theirs(s: dict[str, Tensor], trainer_class: Any, **settings: Any) -> tuple[float, Tensor]:
    """TRL's loss over the rows as one batch."""
    x = s["logprobs"].clone().requires_grad_()
    args = SimpleNamespace(delta=settings.pop("delta", None), use_bias_correction_kl=False, steps_per_generation=1)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(gather=lambda t: t, reduce=lambda t, reduction: t, num_processes=1),
        args=args,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (x, torch.zeros_like(x), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_LENGTH,
        _entropy_bonus_enabled=False,
        use_vllm=settings.pop("corrected", False),
        vllm_importance_sampling_correction=True,
        **{"importance_sampling_level": "token", "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.3, **settings},
    )
    mask = s["mask"].long()
    inputs = {
        "prompt_ids": torch.zeros(B, 1, dtype=torch.long),
        "prompt_mask": torch.ones(B, 1, dtype=torch.long),
        "completion_ids": torch.zeros(B, T, dtype=torch.long),
        "completion_mask": mask,
        "advantages": s["advantages_B"],
        "old_per_token_logps": s["old"],
        "old_logps": (s["old"] * mask).sum(1),
        "ref_per_token_logps": s["ref"],
        "importance_sampling_ratio": s["correction"],
        "num_items_in_batch": mask.sum(),
    }
    loss = trainer_class._compute_loss(trainer, None, inputs)
    loss.backward()
    assert x.grad is not None
    return loss.item(), x.grad


def grpo(s: dict[str, Tensor], loss_type: str, **settings: Any) -> tuple[float, Tensor]:
    from trl import GRPOTrainer

    return theirs(s, GRPOTrainer, loss_type=loss_type, **settings)


def ours(s: dict[str, Tensor], aggregation: str, corrected: bool = False, **options: Any) -> tuple[float, Tensor]:
    x = s["logprobs"].clone().requires_grad_()
    loss_fn = PolicyLoss(
        **{"clip_low": 0.2, "clip_high": 0.3, **options},
        weights=TokenWeights(aggregation, MAX_LENGTH),  # type: ignore[arg-type]
    )
    batch = Experience(
        tokens=torch.zeros(B, T, dtype=torch.long),
        attention_mask=s["mask"],
        response_mask=s["mask"],
        old_logprobs=s["old"],
        advantages=s["advantages_B"].unsqueeze(1).expand(B, T),
        ref_logprobs=s["ref"],
        correction=s["correction"] if corrected else None,
    )
    loss = loss_fn(PolicyOutput(logprobs=x, entropy=torch.zeros(B, T)), batch).total / loss_fn.count(batch)
    loss.backward()
    assert x.grad is not None
    return loss.item(), x.grad


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({"loss_type": "grpo", "beta": 0.04}, {"aggregation": "sequence_mean", "kl_coef": 0.04}),
    "grpo without kl": ({"loss_type": "grpo"}, {"aggregation": "sequence_mean"}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {"aggregation": "sequence_sum"}),
    "dapo": ({"loss_type": "dapo"}, {"aggregation": "token_mean"}),
    "dapo, corrected": (
        {"loss_type": "dapo", "corrected": True, "beta": 0.1},
        {"aggregation": "token_mean", "corrected": True, "kl_coef": 0.1},
    ),
    "bnpo": ({"loss_type": "bnpo"}, {"aggregation": "token_mean"}),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        {"aggregation": "sequence_mean", "ratio": "sequence_mean"},
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.5},
        {"aggregation": "token_mean", "surrogate": "cispo", "clip_low": 1.0, "clip_high": 0.5},
    ),
    "two-sided clip": (
        {"loss_type": "dapo", "delta": 1.6},
        {"aggregation": "token_mean", "dual_clip": 1.6},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_grpo_family_is_trls(name: str) -> None:
    settings, options = CASES[name]
    s = samples()
    (their_loss, their_gradient), (our_loss, our_gradient) = grpo(s, **settings), ours(s, **options)
    assert our_loss == pytest.approx(their_loss, rel=1e-5)
    torch.testing.assert_close(our_gradient, their_gradient, **TOLERANCE)
    assert their_gradient.abs().max() > 1e-3


def test_each_case_is_another_loss() -> None:
    """Or else agreement would show little."""
    losses = {name: ours(samples(), **options)[0] for name, (_, options) in CASES.items() if name != "bnpo"}
    assert len({round(loss, 5) for loss in losses.values()}) == len(losses)


def test_rloo_is_trls() -> None:
    from trl import RLOOTrainer

    s = samples()
    s["logprobs"] = s["old"] + 0.1 * (s["logprobs"] - s["old"])
    their_loss, their_gradient = theirs(s, RLOOTrainer)
    our_loss, our_gradient = ours(s, "sequence_mean", ratio="sequence_product")
    assert our_loss == pytest.approx(their_loss, rel=1e-5)
    torch.testing.assert_close(our_gradient, their_gradient, **TOLERANCE)


# --- where we differ, and why ----------------------------------------------------------------------------------------


def test_a_row_without_tokens_is_not_counted() -> None:
    """TRL's mean over rows counts rows whose every token is masked out (cut completions), so that leaving them out of
    the loss makes it smaller. Ours is the loss of the batch without them (numerics: fully masked rows leave the
    denominator).
    """
    s = samples(blank=3)
    present = torch.tensor([0, 1, 2, 4, 5])
    without = {name: value[present] for name, value in s.items()}
    their_loss, our_loss = grpo(s, "grpo")[0], ours(s, "sequence_mean")[0]
    rows = without["mask"]
    ratio = (without["logprobs"] - without["old"]).exp()
    advantages = without["advantages_B"].unsqueeze(1)
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.3))
    by_definition = ((losses * rows).sum(1) / rows.sum(1)).mean().item()
    assert our_loss == pytest.approx(by_definition, rel=1e-5)
    assert their_loss == pytest.approx(by_definition * 5 / 6, rel=1e-5)


def test_the_mean_over_tokens_does_not_depend_on_micro_batches() -> None:
    """TRL's `bnpo` divides each micro-batch by its own tokens, so that the cut of a batch changes its gradient. Ours
    divides by the tokens of the whole minibatch, which is what the loss says.
    """
    s = samples()

    def cut(loss: Any) -> list[Tensor]:
        pieces = []
        for rows in (slice(0, 2), slice(2, 6)):
            inside = torch.zeros(B, dtype=torch.bool)
            inside[rows] = True
            piece = {**s, "mask": s["mask"] & inside.unsqueeze(1)}
            pieces.append(loss(piece))
        return pieces

    whole = grpo(s, "bnpo")[1]
    in_pieces = sum(cut(lambda piece: grpo(piece, "bnpo")[1] / 2), torch.zeros(B, T))
    assert (in_pieces - whole).abs().max() > 1e-3
    num_tokens = int(s["mask"].sum())
    ours_in_pieces = cut(lambda piece: ours(piece, "token_mean")[1] * int(piece["mask"].sum()) / num_tokens)
    torch.testing.assert_close(sum(ours_in_pieces, torch.zeros(B, T)), whole, **TOLERANCE)


def test_a_token_far_from_the_reference_does_not_own_the_batch() -> None:
    """k3 grows as e^-x: at x = -40 TRL's loss is e^40, and one token decides the step. Ours is cut at 10 (MAX_K3)."""
    s = samples()
    s["ref"][0, 0] = s["logprobs"][0, 0] + 40.0
    assert grpo(s, "grpo", beta=0.04)[0] > 1e10
    assert abs(ours(s, "sequence_mean", kl_coef=0.04)[0]) < 10
