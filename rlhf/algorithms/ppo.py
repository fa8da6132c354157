"""PPO with a value model: KL-shaped rewards, GAE, epochs of clipped updates.

Schulman et al. 2017 (arXiv:1707.06347); for language models Ziegler et al. 2019 (arXiv:1909.08593) and Ouyang et al.
2022 (arXiv:2203.02155). What it shares with its relatives is in `policy_updates`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from rlhf.algorithms.compared import compared
from rlhf.algorithms.policy_objective import TokenWeights
from rlhf.algorithms.policy_updates import PolicyGradient, PolicyGradientConfig
from rlhf.functional.advantages import gae, length_adaptive_lam, token_rewards
from rlhf.functional.aggregation import weighted_sum
from rlhf.functional.masked import whiten
from rlhf.functional.value_loss import clipped_value_loss, explained_variance, value_moments
from rlhf.protocols import Run
from rlhf.types import Experience, LossSum, Metrics, ScoredBatch, ValuedExperience, ValueOutput


class PPOConfig(PolicyGradientConfig):
    """Options of `ppo`."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    """How far back GAE carries what comes later: 1 is the plain sum of rewards, 0 the one-step error."""
    value_lam: float | None = Field(default=None, ge=0, le=1)
    """`lam` of the returns the value model learns, where it should differ; 1 keeps them unbiased (arXiv:2504.05118)."""
    length_adaptive_lam: float | None = Field(default=None, gt=0)
    """Alpha: the advantages take `1 - 1/(alpha * length)` of each completion in place of `lam` (arXiv:2504.05118)."""
    value_clip: float | None = Field(default=0.2, gt=0)
    """A new value may move this far from the old one before its gradient stops; null: no clipping."""
    whiten_rewards: bool = False
    """Divides each token's reward, KL penalty included, by the batch's standard deviation; the mean stays."""
    value_warmup_steps: int = Field(default=0, ge=0)
    """First steps that train the value model only."""
    truncated: Literal["bootstrap", "score"] = "bootstrap"
    """What a completion that was cut at `rollout.max_tokens` is worth. `bootstrap`: the value of what may follow stands
    in for a score, since it was not finished. `score`: what the reward says of the text as it stands, for limits so
    tight that cut completions are many and nothing else would tell the value model what they are worth.
    """
    missing_eos_penalty: float = Field(default=0.0, ge=0)
    """What being cut at `rollout.max_tokens` costs."""


@dataclass(frozen=True)
class ValueLoss:
    """Half the squared error to the return, clipped around the old value, weighed as the policy's loss is."""

    clip: float | None
    weights: TokenWeights = field(default_factory=TokenWeights)
    entropy_grad: ClassVar[bool] = False

    def count(self, batch: ValuedExperience) -> float:
        return self.weights(batch)[1]

    def __call__(self, output: ValueOutput, batch: ValuedExperience) -> LossSum:
        mask = batch.response_mask
        loss = clipped_value_loss(output.values, batch.old_values, batch.returns, mask, self.clip)
        total = weighted_sum(loss.losses, self.weights(batch)[0])
        return LossSum(total=total, sums={"value/clip_fraction": (loss.clipped.sum(), mask.sum())})


class Credit(NamedTuple):
    """What the tokens of a batch are credited with, and what was expected of them; `[B, T]`, zero outside the mask."""

    advantages: Tensor
    returns: Tensor
    values: Tensor

    def explained_variance(self, mask: Tensor) -> float:
        """How much of the returns the values foresaw."""
        return explained_variance(value_moments(self.values, self.returns, mask))


class PPO(PolicyGradient[PPOConfig]):
    """Policy and value model improved on the policy's own samples."""

    def __init__(self, config: PPOConfig) -> None:
        super().__init__(config)
        self.needs = frozenset({"policy", "reference", "value", "rollout"})
        self.value_loss = ValueLoss(config.value_clip, self.token_weights)

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            rollouts = run.score(run.sample(prompts, self.config.samples_per_prompt))
            run.finish_step(step, self.learn(run, step, rollouts), rollouts)

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[ValuedExperience, Metrics]:
        """What the models think of the samples, as advantages and returns."""
        policy, reference, value = run.together(
            lambda: run.policy.forward(batch),
            lambda: run.reference.forward(batch),
            lambda: run.value.forward(batch),
        )
        models, mask = compared(batch, policy.logprobs, reference.logprobs), batch.response_mask
        scores_B, final_values_B = self.ends(batch, value.final_values_B)
        credit = self.credit(scores_B, self.kl_in_reward * models.kl, mask, value.values, final_values_B)
        experience = self.experience(batch, models, whiten(credit.advantages, mask))
        valued = ValuedExperience(**dict(experience.tensors()), old_values=credit.values, returns=credit.returns)
        return valued, {**self.figures(batch, models), "value/explained_variance": credit.explained_variance(mask)}

    @property
    def kl_in_reward(self) -> float:
        """What a nat of KL costs at its token; 0 where it is a term of the loss."""
        return self.kl_coef if self.config.kl_penalty == "k1_in_reward" else 0.0

    def credit(
        self, scores_B: Tensor, penalty: Tensor, mask: Tensor, values: Tensor, final_values_B: Tensor | None
    ) -> Credit:
        """GAE of what is due at each token: less its penalty, and at the last one the score."""
        rewards = token_rewards(scores_B, penalty, mask, 1.0)
        if self.config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        old_values = torch.where(mask, values, 0)
        config = self.config
        alpha, value_lam = config.length_adaptive_lam, config.value_lam
        lam = config.lam if alpha is None else length_adaptive_lam(mask, alpha)
        advantages, returns = gae(rewards, old_values, mask, config.gamma, lam, final_values_B)
        if value_lam is not None:
            _, returns = gae(rewards, old_values, mask, config.gamma, value_lam, final_values_B)
        return Credit(advantages, returns, old_values)

    def ends(self, batch: ScoredBatch, final_values_B: Tensor) -> tuple[Tensor, Tensor]:
        """Scores due, and values of what follows, at the end of each completion; one of the two where it was cut."""
        bootstrapped_B = (
            batch.truncated_B if self.config.truncated == "bootstrap" else torch.zeros_like(batch.truncated_B)
        )
        scores_B = torch.where(bootstrapped_B, 0, batch.scores_B)
        scores_B = scores_B - torch.where(batch.truncated_B, self.config.missing_eos_penalty, 0.0)
        return scores_B, torch.where(bootstrapped_B, final_values_B, 0)

    def update(self, run: Run, minibatch: Experience, step: int) -> Metrics:
        """One optimizer step of each model; of the value model alone while it warms up."""
        if step <= self.config.value_warmup_steps:
            return run.value.train_step(minibatch, self.value_loss)
        policy, value = run.together(
            lambda: run.policy.train_step(minibatch, self.policy_loss()),
            lambda: run.value.train_step(minibatch, self.value_loss),
        )
        return {**policy, **value}
