"""ReMax: REINFORCE whose baseline is the reward of the policy's own greedy completion.

Li et al. 2023 (arXiv:2310.10505), algorithm 1: one more completion a prompt instead of a value model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from rlhf.algorithms.critic_free import CriticFreeConfig, penalised, reward_of
from rlhf.algorithms.policy_updates import PolicyGradient
from rlhf.functional.advantages import discounted_returns, token_rewards
from rlhf.protocols import Run
from rlhf.types import Experience, Metrics, Rollout, ScoredBatch


class ReMaxConfig(CriticFreeConfig):
    """Options of `remax`."""

    epochs: int = Field(default=1, ge=1)
    """Passes over a step's samples."""
    gamma: float = Field(default=1.0, gt=0, le=1)


class ReMax(PolicyGradient[ReMaxConfig]):
    """Policy improved by REINFORCE with a greedy baseline."""

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            greedy = run.score(run.sample(prompts, 1, greedy=True))
            rollouts = run.score(run.sample(prompts, self.config.samples_per_prompt))
            figures = {"rollout/greedy_reward": sum(map(reward_of, greedy)) / len(greedy)}
            run.finish_step(step, figures | self.learn(run, step, self._above(greedy, rollouts)), rollouts)

    def _above(self, greedy: Sequence[Rollout], rollouts: Sequence[Rollout]) -> list[Rollout]:
        """By how much each sample is better than the greedy one; those whose greedy one has no reward are left out."""
        baselines = {rollout.prompt.id: reward_of(rollout) for rollout in penalised(greedy, self.config)}
        return [
            replace(rollout, reward=reward_of(rollout) - baselines[rollout.prompt.id])
            for rollout in penalised(rollouts, self.config)
            if rollout.prompt.id in baselines
        ]

    def assess(self, run: Run, batch: ScoredBatch) -> tuple[Experience, Metrics]:
        """The return of every token above the baseline, KL penalty included."""
        models, mask = self.compare(run, batch), batch.response_mask
        in_reward = self.kl_coef if self.config.kl_penalty == "k1_in_reward" else 0.0
        rewards = token_rewards(batch.scores_B, models.kl, mask, in_reward)
        advantages = discounted_returns(rewards, mask, self.config.gamma)
        kept_B = ~batch.truncated_B if self.config.mask_truncated else None
        return self.experience(batch, models, advantages, kept_B), self.figures(batch, models)
