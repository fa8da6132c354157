"""What a policy-gradient step minimises: a surrogate, a KL term, an entropy bonus, and how tokens are weighed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from rlhf.functional.aggregation import sequence_mean, sequence_sum, token_mean, weighted_sum
from rlhf.functional.engine_gap import engine_gap
from rlhf.functional.kl import k1, k2, k3
from rlhf.functional.policy_loss import PolicyLoss as Surrogate
from rlhf.functional.policy_loss import RatioLevel, cispo_loss, clipped_policy_loss, has_drifted
from rlhf.types import Experience, LossSum, PolicyOutput

Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum", "prompt_mean"]


@dataclass(frozen=True)
class TokenWeights:
    """Weights of a batch's tokens and what their weighted sum is divided by.

    Three of the modes follow from each row alone, and are taken anew from every piece of a batch. `prompt_mean` must
    see all rows of a prompt: the algorithm carries its weights in `loss_weights`, and they sum to the count.
    """

    aggregation: Aggregation = "token_mean"
    loss_length: int = 1

    def __call__(self, batch: Experience) -> tuple[Tensor, float]:
        """`(weights [B, T], count)`; weights are zero outside the mask, and blank rows are not counted."""
        mask = batch.response_mask
        if self.aggregation == "prompt_mean":
            if batch.loss_weights is None:
                raise ValueError("prompt_mean: the weights of all of a prompt's rows must come with the batch")
            weights = torch.where(mask, batch.loss_weights, 0)
            return weights, float(weights.double().sum())
        if self.aggregation == "sequence_sum":
            weights, count = sequence_sum(mask, self.loss_length)
        else:
            weights, count = sequence_mean(mask) if self.aggregation == "sequence_mean" else token_mean(mask)
        return weights, float(count)


@dataclass(frozen=True)
class PolicyLoss:
    """The surrogate of sampled tokens, plus the KL to the reference where it is a term of the loss, minus entropy."""

    clip_low: float
    clip_high: float
    dual_clip: float | None = None
    surrogate: Literal["clip", "cispo"] = "clip"
    ratio: RatioLevel = "token"
    kl_coef: float = 0.0
    kl_estimator: Literal["k2", "k3"] = "k3"
    entropy_coef: float = 0.0
    max_drift: float | None = None
    weights: TokenWeights = field(default_factory=TokenWeights)

    @property
    def entropy_grad(self) -> bool:
        """Whether the engine must keep the entropy's graph."""
        return self.entropy_coef > 0

    def count(self, batch: Experience) -> float:
        return self.weights(batch)[1]

    def __call__(self, output: PolicyOutput, batch: Experience) -> LossSum:
        mask, count = batch.response_mask, batch.response_mask.sum()
        old = output.logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        surrogate = self._surrogate(output.logprobs, old, batch)
        entropy = torch.where(mask, output.entropy, 0)
        losses = surrogate.losses
        if batch.correction is not None:
            losses = losses * torch.where(mask, batch.correction, 0)
        drifted = self._drifted(output.logprobs, old, batch)
        if drifted is not None:
            losses = torch.where(drifted, 0, losses)
        sums = {
            "policy/approx_kl": (surrogate.approx_kl.sum(), count),
            "policy/clip_fraction_low": (surrogate.clipped_low.sum(), count),
            "policy/clip_fraction_high": (surrogate.clipped_high.sum(), count),
            "policy/entropy": (entropy.detach().sum(), count),
        }
        if self.dual_clip is not None:
            sums["policy/clip_fraction_dual"] = (surrogate.dual_clipped.sum(), count)
        if drifted is not None:
            sums["policy/drifted"] = (drifted.sum(), count)
        if self.kl_coef:
            assert batch.ref_logprobs is not None
            kl = (k2 if self.kl_estimator == "k2" else k3)(output.logprobs, batch.ref_logprobs, mask)
            losses = losses + self.kl_coef * kl
            sums["policy/kl_loss"] = (kl.detach().sum(), count)
            if batch.old_logprobs is None:
                sums["policy/kl_to_reference"] = (k1(old, batch.ref_logprobs, mask).sum(), mask.any(dim=1).sum())
        if self.entropy_coef:
            losses = losses - self.entropy_coef * entropy
        peaks = {}
        if batch.sampled_logprobs is not None:
            gap = engine_gap(old, batch.sampled_logprobs, mask)
            sums["rollout/logprob_gap"] = (gap.mean * count, count)
            sums["rollout/logprob_error"] = (gap.token_error * count, count)
            peaks["rollout/logprob_gap_max"] = gap.largest
        return LossSum(total=weighted_sum(losses, self.weights(batch)[0]), sums=sums, peaks=peaks)

    def _drifted(self, logprobs: Tensor, old: Tensor, batch: Experience) -> Tensor | None:
        if self.max_drift is None:
            return None
        return has_drifted(logprobs, old, batch.advantages, batch.response_mask, self.max_drift)

    def _surrogate(self, logprobs: Tensor, old: Tensor, batch: Experience) -> Surrogate:
        advantages, mask = batch.advantages, batch.response_mask
        if self.surrogate == "cispo":
            return cispo_loss(logprobs, old, advantages, mask, self.clip_low, self.clip_high, self.ratio)
        return clipped_policy_loss(
            logprobs, old, advantages, mask, self.clip_low, self.clip_high, self.dual_clip, self.ratio
        )
