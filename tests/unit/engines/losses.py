"""Two losses of the shapes the algorithms have, small enough to read at a glance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlhf.types import LossSum, PolicyOutput, PreferenceBatch, RewardOutput, TokenBatch, ValuedExperience, ValueOutput


@dataclass(frozen=True)
class Likelihood:
    """SFT: the mean over response tokens of -log p."""

    embedding_noise: float = 0.0
    entropy_grad = False

    def count(self, batch: TokenBatch) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: PolicyOutput, batch: TokenBatch) -> LossSum:
        mask = batch.response_mask
        total = -torch.where(mask, output.logprobs, 0.0).sum()
        entropy = torch.where(mask, output.entropy, 0.0).sum()
        return LossSum(total=total, sums={"policy/entropy": (entropy, mask.sum())})


@dataclass(frozen=True)
class ClippedSurrogate:
    """PPO: clipped ratios times advantages, minus an entropy bonus."""

    entropy_grad = True

    def count(self, batch: ValuedExperience) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: PolicyOutput, batch: ValuedExperience) -> LossSum:
        mask = batch.response_mask
        ratio = torch.where(mask, output.logprobs - batch.old_logprobs, 0.0).exp()
        gain = torch.minimum(ratio * batch.advantages, ratio.clamp(0.8, 1.2) * batch.advantages) + 0.01 * output.entropy
        clipped = torch.where(mask, (ratio - 1).abs() > 0.2, False).sum()
        return LossSum(total=-torch.where(mask, gain, 0.0).sum(), sums={"policy/clip_fraction": (clipped, mask.sum())})


@dataclass(frozen=True)
class SquaredError:
    """Values, and the state after the last token, towards 1."""

    def count(self, batch: TokenBatch) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: ValueOutput, batch: TokenBatch) -> LossSum:
        errors = torch.where(batch.response_mask, (output.values - 1) ** 2, 0.0)
        return LossSum(total=errors.sum() + (output.final_values_B - 1).pow(2).sum(), sums={})


@dataclass(frozen=True)
class NotFinite:
    """A loss, or only its gradient, that is not a number."""

    gradient_only: bool = False

    def count(self, batch: TokenBatch) -> float:
        return float(len(batch))

    def __call__(self, output: PolicyOutput, batch: TokenBatch) -> LossSum:
        total = output.logprobs.sum()
        return LossSum(total=(total * 0).sqrt() if self.gradient_only else total + torch.nan, sums={})


def experience(batch: TokenBatch, old_logprobs: torch.Tensor, seed: int = 0) -> ValuedExperience:
    generator = torch.Generator().manual_seed(seed)
    zero = torch.zeros_like(old_logprobs)
    noise = 0.1 * torch.randn(zero.shape, generator=generator)
    return ValuedExperience(
        tokens=batch.tokens,
        attention_mask=batch.attention_mask,
        response_mask=batch.response_mask,
        old_logprobs=torch.where(batch.response_mask, old_logprobs + noise, 0.0),
        ref_logprobs=zero,
        advantages=torch.where(batch.response_mask, torch.randn(zero.shape, generator=generator), 0.0),
        old_values=zero,
        returns=zero,
    )


@dataclass(frozen=True)
class RankingLoss:
    """Bradley-Terry on chosen and rejected; blank rows are not present and do not count."""

    def count(self, batch: PreferenceBatch) -> float:
        return float(batch.present_BK.all(dim=1).sum())

    def __call__(self, output: RewardOutput, batch: PreferenceBatch) -> LossSum:
        scores_BK = output.scores_B.view(batch.present_BK.shape)
        present_B = batch.present_BK.all(dim=1)
        margins = scores_BK[:, 0] - scores_BK[:, 1]
        total = -torch.where(present_B, torch.nn.functional.logsigmoid(margins), 0.0).sum()
        right = torch.where(present_B, margins > 0, False).sum()
        return LossSum(total=total, sums={"reward/accuracy": (right, present_B.sum())})
