"""RLOO: REINFORCE on whole completions, each compared with the mean of the prompt's other samples.

Ahmadian et al. 2024 (arXiv:2402.14740), after Kool et al. 2019. The KL to the reference is part of a completion's
score, as the paper has it.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from rlhf.algorithms.critic_free import GroupConfig, draw_groups
from rlhf.algorithms.policy_objective import Aggregation, PolicyLoss
from rlhf.algorithms.policy_updates import PolicyGradient, of_every_token
from rlhf.functional.group_advantages import rloo_advantages
from rlhf.functional.policy_loss import RatioLevel
from rlhf.protocols import Run
from rlhf.types import Experience, Metrics, ScoredBatch


class RLOOConfig(GroupConfig):
    """Options of `rloo`."""

    samples_per_prompt: int = 4
    """The group: at least 2. Groups whose rewards, before any penalty, are all alike (within 1e-6) are left out of the
    updates and counted as `rollout/groups_skipped`.
    """
    minibatch_size: int = Field(default=128, ge=1)
    """Samples in one optimizer step."""
    aggregation: Aggregation = "sequence_mean"
    """How token losses become one; with a ratio of whole completions, `sequence_mean` is the mean over completions."""
    ratio: RatioLevel = "sequence_product"
    """The probability ratio that is clipped: a completion is one action, so that of the whole completion. It is 1 in
    the first update of a step, and matters from the second on.
    """


class RLOO(PolicyGradient[RLOOConfig]):
    """Policy improved by REINFORCE with a leave-one-out baseline."""

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            groups = draw_groups(run, prompts, self.config, self.config.max_sampling_rounds)
            figures = groups.figures | self.learn(run, step, groups.kept)
            run.finish_step(step, figures, groups.rollouts)

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[Experience, Metrics]:
        """Each completion against the mean of the others in its group, on all of its tokens."""
        models, scores_B = self.compare(run, batch), batch.scores_B
        if self.config.kl_penalty == "k1_in_reward":
            scores_B = scores_B - self.kl_coef * models.kl.sum(1)
        advantages = of_every_token(rloo_advantages(scores_B, batch.group_B), batch.response_mask)
        kept_B = ~batch.truncated_B if self.config.mask_truncated else None
        return self.experience(batch, models, advantages, kept_B), self.figures(batch, models)

    def policy_loss(self) -> PolicyLoss:
        return replace(super().policy_loss(), ratio=self.config.ratio)
