"""GRPO: the samples of one prompt are each other's baseline, and no value model is needed.

Shao et al. 2024 (DeepSeekMath, arXiv:2402.03300). Its relatives are options: Dr. GRPO (arXiv:2503.20783), DAPO
(arXiv:2503.14476), GSPO (arXiv:2507.18071), CISPO (MiniMax-M1, arXiv:2506.13585); each has a recipe of its name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from rlhf.algorithms.critic_free import GroupConfig, draw_groups
from rlhf.algorithms.policy_objective import Aggregation, PolicyLoss
from rlhf.algorithms.policy_updates import PolicyGradient, of_every_token
from rlhf.functional.group_advantages import grpo_advantages
from rlhf.functional.policy_loss import RatioLevel
from rlhf.protocols import Run
from rlhf.types import Experience, Metrics, ScoredBatch


class GRPOConfig(GroupConfig):
    """Options of `grpo`."""

    kl_coef: float = Field(default=0.04, ge=0)
    """Price of a nat of KL to the reference, per token; with 0 there is no reference."""
    kl_penalty: Literal["k1_in_reward", "k2_in_loss", "k3_in_loss"] = "k3_in_loss"
    """Where the KL is charged, and by which estimator; in the reward, a completion's whole KL comes off its score."""
    divide_by_std: bool = True
    """Divides a group's advantages by the standard deviation of its scores; without (Dr. GRPO), prompts that are nearly
    always or hardly ever answered well weigh no more than others.
    """
    aggregation: Aggregation = "sequence_mean"
    """How token losses become one: the mean over all tokens (DAPO); over rows of each row's mean (GRPO); over rows of
    each row's sum divided by `loss_length` (Dr. GRPO); or over prompts of the mean over all tokens of a prompt. Counted
    over the whole minibatch whatever the micro-batches and workers; a prompt's tokens over the whole step.
    """
    ratio: RatioLevel = "token"
    """The probability ratio that is clipped: of each token, or of whole completions, `sequence_mean` as the geometric
    mean over tokens (GSPO) and `sequence_product` as it is.
    """
    surrogate: Literal["clip", "cispo"] = "clip"
    """`clip`: beyond the bounds a token has no gradient. `cispo`: there only its weight is held at the bound."""


class GRPO(PolicyGradient[GRPOConfig]):
    """Policy improved on groups of its own samples."""

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            groups = draw_groups(run, prompts, self.config, self.config.max_sampling_rounds)
            figures = groups.figures | self.learn(run, step, groups.kept)
            run.finish_step(step, figures, groups.rollouts)

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[Experience, Metrics]:
        """Each completion against the mean of its group, on all of its tokens."""
        models, scores_B = self.compare(run, batch), batch.scores_B
        if self.config.kl_penalty == "k1_in_reward":
            scores_B = scores_B - self.kl_coef * models.kl.sum(1)
        advantages_B = grpo_advantages(scores_B, batch.group_B, divide_by_std=self.config.divide_by_std)
        advantages = of_every_token(advantages_B, batch.response_mask)
        kept_B = ~batch.truncated_B if self.config.mask_truncated else None
        return self.experience(batch, models, advantages, kept_B), self.figures(batch, models)

    def policy_loss(self) -> PolicyLoss:
        return replace(super().policy_loss(), ratio=self.config.ratio, surrogate=self.config.surrogate)
