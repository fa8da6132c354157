"""RAFT: sample several completions of each prompt, keep the best by reward, imitate those.

Dong et al. 2023 (arXiv:2304.06767), algorithm 1 with local ranking; with `min_reward` it is rejection-sampling
fine-tuning (Yuan et al. 2023, arXiv:2308.01825): imitate what is good enough, however much of it there is. There is no
reference and no value model: the only thing that is learned from a reward is which samples are worth repeating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field, model_validator

from rlhf.algorithms.critic_free import reward_of
from rlhf.algorithms.figures import mean_of
from rlhf.algorithms.supervised import NextTokenLoss
from rlhf.config import PartConfig
from rlhf.errors import RewardError
from rlhf.functional.selection import best_of_group
from rlhf.protocols import Algorithm, Run
from rlhf.types import Metrics, Rollout, TokenBatch

PATIENCE = 10
"""Steps in a row without one completion to imitate, after which the run gives up."""


class RAFTConfig(PartConfig):
    """Options of `raft`."""

    steps: int = Field(ge=1)
    """Rounds of sampling, choosing and imitating."""
    prompts_per_step: int = Field(default=64, ge=1)
    samples_per_prompt: int = Field(default=8, ge=2)
    keep: int = Field(default=1, ge=1)
    """Completions of a prompt that are imitated: the best so many. Of equals the earlier sample counts as better."""
    min_reward: float | None = None
    """Completions below it are never imitated, best of their prompt or not."""
    minibatch_size: int = Field(default=64, ge=1)
    """Completions in one optimizer step."""
    epochs: int = Field(default=1, ge=1)
    """Passes over a step's chosen completions."""

    @model_validator(mode="after")
    def _keeps_some_of_them(self) -> RAFTConfig:
        if self.keep > self.samples_per_prompt or (self.keep == self.samples_per_prompt and self.min_reward is None):
            raise ValueError(
                f"keep {self.keep} of samples_per_prompt {self.samples_per_prompt} chooses nothing; "
                "lower keep, sample more, or give min_reward"
            )
        return self


class RAFT(Algorithm):
    """Policy trained on the best of its own samples; the loss is SFT's, at the sampling temperature."""

    needs = frozenset({"policy", "rollout"})
    consumes = "prompts"

    def __init__(self, config: RAFTConfig) -> None:
        self.config = config
        self.loss = NextTokenLoss()
        most = config.prompts_per_step * config.keep
        self.updates_per_step = config.epochs * -(-most // config.minibatch_size)
        self._without = 0
        """Steps in a row, the latest of all, in which nothing was chosen."""

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.steps

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            rollouts = run.score(run.sample(prompts, self.config.samples_per_prompt))
            chosen = self.choose(rollouts)
            self._without = 0 if chosen else self._without + 1
            if self._without == PATIENCE:
                raise RewardError(_nothing_chosen(rollouts))
            figures = self.imitate(run, run.collate(chosen), step) if chosen else {}
            run.publish_weights()
            run.finish_step(step, figures | _figures(rollouts, chosen), rollouts)

    def choose(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The best of each prompt. A completion that was cut at `rollout.max_tokens` has no end to imitate."""
        scores_B = torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
        groups: dict[str, int] = {}
        group_B = torch.tensor([groups.setdefault(rollout.prompt.id, len(groups)) for rollout in rollouts])
        eligible_B = torch.tensor([rollout.completion.finish_reason == "stop" for rollout in rollouts])
        if self.config.min_reward is not None:
            eligible_B = eligible_B & (scores_B >= self.config.min_reward)
        chosen_B = best_of_group(scores_B, group_B, self.config.keep, eligible_B)
        return [rollout for rollout, chosen in zip(rollouts, chosen_B.tolist(), strict=True) if chosen]

    def imitate(self, run: Run, batch: TokenBatch, step: int) -> Metrics:
        """Epochs of next-token prediction over shuffled minibatches of the chosen completions."""
        shuffle = torch.Generator().manual_seed(step)
        collected: list[Metrics] = []
        for _ in range(self.config.epochs):
            minibatches = batch[torch.randperm(len(batch), generator=shuffle)].split(self.config.minibatch_size)
            collected += [run.policy.train_step(minibatch, self.loss) for minibatch in minibatches]
        return mean_of(collected)

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        """Reward of one sample for each held-out prompt."""
        prompts = run.held_out_prompts()
        if not prompts:
            return {}
        return {"reward": [reward_of(rollout) for rollout in run.score(run.sample(prompts, 1))]}

    def state(self) -> dict[str, float]:
        return {"steps_without": float(self._without)}

    def restore(self, state: Mapping[str, float]) -> None:
        self._without = int(state["steps_without"])


def _figures(rollouts: Sequence[Rollout], chosen: Sequence[Rollout]) -> Metrics:
    figures = {"rollout/kept": len(chosen) / len(rollouts)}
    if chosen:
        figures["reward/kept"] = sum(reward_of(rollout) for rollout in chosen) / len(chosen)
    return figures


def _nothing_chosen(rollouts: Sequence[Rollout]) -> str:
    cut = sum(rollout.completion.finish_reason == "length" for rollout in rollouts)
    return (
        f"raft found nothing to imitate in {PATIENCE} steps in a row: of the last {len(rollouts)} completions {cut} "
        f"were cut at rollout.max_tokens and {len(rollouts) - cut} had a reward below min_reward; raise the one, "
        "lower the other"
    )
