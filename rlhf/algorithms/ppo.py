"""PPO with a value model: KL-shaped rewards, GAE, epochs of clipped updates.

Schulman et al. 2017 (arXiv:1707.06347); for language models Ziegler et al. 2019 (arXiv:1909.08593) and Ouyang et al.
2022 (arXiv:2203.02155). A step reads top to bottom in `PPO.run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rlhf.config import PartConfig
from rlhf.functional.advantages import gae, token_rewards
from rlhf.functional.kl import AdaptiveKL, k1, update_kl
from rlhf.functional.masked import masked_mean, whiten
from rlhf.functional.policy_loss import clipped_policy_loss
from rlhf.functional.value_loss import clipped_value_loss, explained_variance, value_moments
from rlhf.protocols import Algorithm, Run
from rlhf.types import (
    Experience,
    LossSum,
    Metrics,
    PolicyOutput,
    Rollout,
    ScoredBatch,
    ValuedExperience,
    ValueOutput,
)


class PPOConfig(PartConfig):
    """Options of `ppo`."""

    steps: int = Field(ge=1)
    """Rounds of sampling and updating."""
    prompts_per_step: int = Field(default=64, ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)
    minibatch_size: int = Field(default=64, ge=1)
    """Samples in one optimizer step."""
    epochs: int = Field(default=2, ge=1)
    """Passes over a step's samples."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Weight of the KL penalty, subtracted from the reward at every token (estimator k1)."""
    kl_target: float | None = Field(default=None, gt=0)
    """KL of a whole completion, in nats, that an adaptive coefficient steers to; fixed coefficient where absent."""
    kl_horizon: float = Field(default=10_000, gt=0)
    """Samples over which the adaptive coefficient moves by a factor of e at most (arXiv:1909.08593, section 2.2)."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.2, gt=0)
    """The probability ratio is clipped to [1 - clip_low, 1 + clip_high]."""
    value_clip: float | None = Field(default=0.2, gt=0)
    """A new value may move this far from the old one before its gradient stops; null: no clipping."""
    entropy_coef: float = Field(default=0.0, ge=0)
    target_kl: float | None = Field(default=None, gt=0)
    """A step's epochs end early once the update's own KL per token (k3) exceeds this."""
    value_warmup_steps: int = Field(default=0, ge=0)
    """First steps that train the value model only."""
    missing_eos_penalty: float = Field(default=0.0, ge=0)
    """Subtracted from the score of a completion that was cut at `rollout.max_tokens`."""


@dataclass(frozen=True)
class PolicyLoss:
    """The clipped surrogate summed over response tokens, minus the entropy bonus."""

    clip_low: float
    clip_high: float
    entropy_coef: float = 0.0

    @property
    def entropy_grad(self) -> bool:
        """Whether the engine must keep the entropy's graph."""
        return self.entropy_coef > 0

    def count(self, batch: Experience) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: PolicyOutput, batch: Experience) -> LossSum:
        mask = batch.response_mask
        surrogate = clipped_policy_loss(
            output.logprobs, batch.old_logprobs, batch.advantages, mask, self.clip_low, self.clip_high
        )
        entropy = torch.where(mask, output.entropy, torch.zeros_like(output.entropy)).sum()
        count = mask.sum()
        sums = {
            "policy/approx_kl": (surrogate.approx_kl.sum(), count),
            "policy/clip_fraction_low": (surrogate.clipped_low.sum(), count),
            "policy/clip_fraction_high": (surrogate.clipped_high.sum(), count),
            "policy/entropy": (entropy.detach(), count),
        }
        return LossSum(total=surrogate.losses.sum() - self.entropy_coef * entropy, sums=sums)


@dataclass(frozen=True)
class ValueLoss:
    """Half the squared error to the return, clipped around the old value, summed over response tokens."""

    clip: float | None
    entropy_grad: ClassVar[bool] = False

    def count(self, batch: ValuedExperience) -> float:
        return float(batch.response_mask.sum())

    def __call__(self, output: ValueOutput, batch: ValuedExperience) -> LossSum:
        mask = batch.response_mask
        loss = clipped_value_loss(output.values, batch.old_values, batch.returns, mask, self.clip)
        return LossSum(total=loss.losses.sum(), sums={"value/clip_fraction": (loss.clipped.sum(), mask.sum())})


class PPO(Algorithm):
    """Policy and value model improved on the policy's own samples."""

    needs = frozenset({"policy", "reference", "value", "rollout"})
    consumes = "prompts"

    def __init__(self, config: PPOConfig) -> None:
        self.config = config
        samples = config.prompts_per_step * config.samples_per_prompt
        self.updates_per_step = config.epochs * -(-samples // config.minibatch_size)
        self.policy_loss = PolicyLoss(config.clip_low, config.clip_high, config.entropy_coef)
        self.value_loss = ValueLoss(config.value_clip)
        self.kl_coef = config.kl_coef

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.steps

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            rollouts = run.score(run.sample(prompts, self.config.samples_per_prompt))
            experience, figures = self.assess(run, run.collate(rollouts))
            figures |= self.improve(run, experience, step)
            run.publish_weights()
            run.finish_step(step, figures, rollouts)

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[ValuedExperience, Metrics]:
        """What the models think of the samples, as advantages and returns."""
        mask, zero = batch.response_mask, torch.zeros_like(batch.sampled_logprobs)
        policy, reference, value = run.together(
            lambda: run.policy.forward(batch), lambda: run.reference.forward(batch), lambda: run.value.forward(batch)
        )
        old_logprobs = torch.where(mask, policy.logprobs, zero)
        ref_logprobs = torch.where(mask, reference.logprobs, zero)
        old_values = torch.where(mask, value.values, zero)

        kl = k1(old_logprobs, ref_logprobs, mask)
        # A truncated completion is not a finished one: no score is due, the value of what may follow stands in for it.
        scores_B = torch.where(batch.truncated_B, -self.config.missing_eos_penalty, batch.scores_B)
        final_values_B = torch.where(batch.truncated_B, value.final_values_B, 0.0)
        rewards = token_rewards(scores_B, kl, mask, self.kl_coef)
        advantages, returns = gae(
            rewards, old_values, mask, gamma=self.config.gamma, lam=self.config.lam, final_values_B=final_values_B
        )
        experience = ValuedExperience(
            tokens=batch.tokens,
            attention_mask=batch.attention_mask,
            response_mask=mask,
            old_logprobs=old_logprobs,
            ref_logprobs=ref_logprobs,
            old_values=old_values,
            advantages=whiten(advantages, mask),
            returns=returns,
        )
        return experience, self._figures(batch, experience, kl)

    def _figures(self, batch: ScoredBatch, experience: ValuedExperience, kl: Tensor) -> Metrics:
        mask = batch.response_mask
        kl_of_completion = float(kl.sum(1).mean())
        figures = {
            "policy/kl_to_reference": kl_of_completion,
            "policy/kl_coef": self.kl_coef,
            "value/explained_variance": explained_variance(
                value_moments(experience.old_values, experience.returns, mask)
            ),
            "rollout/logprob_gap": float(masked_mean((experience.old_logprobs - batch.sampled_logprobs).abs(), mask)),
        }
        if self.config.kl_target is not None:
            controller = AdaptiveKL(coef=self.kl_coef, target=self.config.kl_target, horizon=self.config.kl_horizon)
            self.kl_coef = update_kl(controller, kl_of_completion, len(batch)).coef
        return figures

    def improve(self, run: Run, experience: ValuedExperience, step: int) -> Metrics:
        """Epochs of clipped updates over shuffled minibatches."""
        shuffle = torch.Generator().manual_seed(step)
        collected: list[Metrics] = []
        for _ in range(self.config.epochs):
            order = torch.randperm(len(experience), generator=shuffle)
            for minibatch in experience[order].split(self.config.minibatch_size):
                collected.append(self._update(run, minibatch, step))
                if self.config.target_kl and collected[-1].get("policy/approx_kl", 0.0) > self.config.target_kl:
                    return _mean_of(collected)
        return _mean_of(collected)

    def _update(self, run: Run, minibatch: ValuedExperience, step: int) -> Metrics:
        if step <= self.config.value_warmup_steps:
            return run.value.train_step(minibatch, self.value_loss)
        policy, value = run.together(
            lambda: run.policy.train_step(minibatch, self.policy_loss),
            lambda: run.value.train_step(minibatch, self.value_loss),
        )
        return {**policy, **value}

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Reward of one sample for each held-out prompt, and its KL to the reference."""
        prompts = run.held_out_prompts()
        if not prompts:
            return {}
        rollouts: Sequence[Rollout] = run.score(run.sample(prompts, 1))
        batch = run.collate(rollouts)
        policy, reference = run.together(lambda: run.policy.forward(batch), lambda: run.reference.forward(batch))
        kl = torch.where(batch.response_mask, policy.logprobs - reference.logprobs, torch.zeros_like(policy.logprobs))
        return {"reward": batch.scores_B.tolist(), "kl_to_reference": kl.sum(1).tolist()}

    def state(self) -> dict[str, float]:
        return {"kl_coef": self.kl_coef}

    def restore(self, state: Mapping[str, float]) -> None:
        self.kl_coef = state["kl_coef"]


def _mean_of(collected: Sequence[Metrics]) -> Metrics:
    """Mean of each figure over the updates that report it."""
    names = {name for metrics in collected for name in metrics}
    means: Metrics = {}
    for name in sorted(names):
        values = [metrics[name] for metrics in collected if name in metrics]
        means[name] = sum(values) / len(values)
    return means
