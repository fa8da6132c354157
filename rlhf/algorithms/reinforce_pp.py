"""REINFORCE++: PPO's clipped updates without a value model, advantages normalised over the whole batch of tokens.

Hu et al. 2025 (arXiv:2501.03262). `baseline: group` is its second form, REINFORCE++-baseline, for several samples a
prompt.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlhf.algorithms.critic_free import CriticFreeConfig, draw_groups, penalised
from rlhf.algorithms.policy_updates import PolicyGradient
from rlhf.functional.advantages import discounted_returns, token_rewards
from rlhf.functional.group_advantages import grpo_advantages
from rlhf.functional.masked import whiten
from rlhf.protocols import Run
from rlhf.types import Experience, Metrics, ScoredBatch


class ReinforcePPConfig(CriticFreeConfig):
    """Options of `reinforce_pp`."""

    epochs: int = Field(default=1, ge=1)
    """Passes over a step's samples."""
    kl_coef: float = Field(default=0.01, ge=0)
    """Price of a nat of KL to the reference, per token; with 0 there is no reference."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    baseline: Literal["none", "group"] = "none"
    """What scores are compared with before advantages are normalised over the batch: nothing, or the mean of the
    prompt's samples; groups whose rewards are all alike are then left out. The paper has the KL in the loss with it
    (`kl_penalty: k2_in_loss`).
    """

    @model_validator(mode="after")
    def _a_baseline_needs_a_group(self) -> ReinforcePPConfig:
        if self.baseline == "group" and self.samples_per_prompt < 2:
            raise ValueError(
                "baseline group needs samples_per_prompt of 2 or more: one has nothing to be compared with"
            )
        return self


class ReinforcePP(PolicyGradient[ReinforcePPConfig]):
    """Policy improved by REINFORCE with advantages normalised over the batch."""

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            if self.config.baseline == "group":
                groups = draw_groups(run, prompts, self.config)
                rollouts, kept, figures = groups.rollouts, groups.kept, groups.figures
            else:
                rollouts = run.score(run.sample(prompts, self.config.samples_per_prompt))
                kept, figures = penalised(rollouts, self.config), {}
            run.finish_step(step, figures | self.learn(run, step, kept), rollouts)

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[Experience, Metrics]:
        """The return of every token, KL penalty included, whitened over all tokens."""
        models, mask, scores_B = self.compare(run, batch), batch.response_mask, batch.scores_B
        if self.config.baseline == "group":
            scores_B = grpo_advantages(scores_B, batch.group_B, divide_by_std=False)
        in_reward = self.kl_coef if self.config.kl_penalty == "k1_in_reward" else 0.0
        returns = discounted_returns(token_rewards(scores_B, models.kl, mask, in_reward), mask, self.config.gamma)
        kept_B = ~batch.truncated_B if self.config.mask_truncated else None
        return self.experience(batch, models, whiten(returns, mask), kept_B), self.figures(batch, models)
