"""What methods without a value model share: the score of a whole completion, and groups of samples of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field, field_validator, model_validator

from rlhf.algorithms.policy_updates import PolicyGradientConfig
from rlhf.config import PartConfig
from rlhf.functional.group_advantages import varied_groups
from rlhf.functional.length_penalty import overlong_penalty
from rlhf.protocols import Run
from rlhf.types import Metrics, Prompt, Rollout


class OverlongConfig(PartConfig):
    """A soft price on length: nothing up to `max_length - buffer` tokens, `penalty` at `max_length`, linear between."""

    max_length: int = Field(ge=1)
    """`rollout.max_tokens` is usual."""
    buffer: int = Field(ge=1)
    penalty: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> OverlongConfig:
        if self.buffer > self.max_length:
            raise ValueError(f"buffer {self.buffer} is longer than max_length {self.max_length}")
        return self


class CriticFreeConfig(PolicyGradientConfig):
    """Options of every method that credits all tokens of a completion with its score."""

    missing_eos_penalty: float = Field(default=0.0, ge=0)
    """Subtracted from the score of a completion that was cut at `rollout.max_tokens`. Its score counts, as that of the
    text as it stands: there is no value model to say what might have followed.
    """
    mask_truncated: bool = False
    """Leaves cut completions out of the updates (DAPO's overlong filtering). They still count in their group's mean."""
    overlong: OverlongConfig | None = None
    """A soft price on length (DAPO, arXiv:2503.14476, equation 13)."""


class GroupConfig(CriticFreeConfig):
    """Options of every method that compares the samples of one prompt with each other."""

    prompts_per_step: int = Field(default=32, ge=1)
    samples_per_prompt: int = 8
    """The group: at least 2. Groups whose rewards, before any penalty, are all alike (within 1e-6) are left out of the
    updates and counted as `rollout/groups_skipped`.
    """
    minibatch_size: int = Field(default=256, ge=1)
    """Samples in one optimizer step."""
    epochs: int = Field(default=1, ge=1)
    """Passes over a step's samples."""
    max_sampling_rounds: int = Field(default=1, ge=1)
    """With more than one, a step that lost groups samples as many new prompts in their place, up to so many rounds in
    all (DAPO's dynamic sampling, arXiv:2503.14476, section 3.2); then it goes on with what it has.
    """

    @field_validator("samples_per_prompt")
    @classmethod
    def _is_a_group(cls, size: int) -> int:
        if size < 2:
            raise ValueError("a group needs 2 samples or more, for one has nothing to be compared with")
        return size


@dataclass(frozen=True)
class Groups:
    """A step's samples."""

    rollouts: list[Rollout]
    """All that were scored."""
    kept: list[Rollout]
    """Those of groups whose rewards differ, with penalties taken off."""
    figures: Metrics


def draw_groups(run: Run, prompts: list[Prompt], config: CriticFreeConfig, max_rounds: int = 1) -> Groups:
    """Sample and score groups, and leave out those that say nothing; in rounds, until as many are kept as prompts."""
    rollouts: list[Rollout] = []
    kept: list[Rollout] = []
    num_groups, wanted = 0, len({prompt.id for prompt in prompts})
    missing = wanted
    for sampling_round in range(max_rounds):
        asked = prompts if sampling_round == 0 else run.more_prompts(missing)
        scored = run.score(run.sample(asked, config.samples_per_prompt))
        varied = with_varied_rewards(scored)
        rollouts += scored
        kept += varied
        num_groups += len({prompt.id for prompt in asked})
        missing -= len({rollout.prompt.id for rollout in varied})
        if missing <= 0:
            break
    skipped = num_groups - (wanted - missing)
    figures = {"rollout/groups": float(num_groups), "rollout/groups_skipped": float(skipped)}
    return Groups(rollouts, penalised(kept, config), figures)


def with_varied_rewards(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts of prompts whose rewards are not all alike."""
    if not rollouts:
        return []
    names: dict[str, int] = {}
    group_B = torch.tensor([names.setdefault(rollout.prompt.id, len(names)) for rollout in rollouts])
    scores_B = torch.tensor([reward_of(rollout) for rollout in rollouts], dtype=torch.float64)
    return [
        rollout for rollout, varied in zip(rollouts, varied_groups(scores_B, group_B).tolist(), strict=True) if varied
    ]


def penalised(rollouts: Sequence[Rollout], config: CriticFreeConfig) -> list[Rollout]:
    """The rollouts with what a missing end and great length cost taken off their rewards."""
    if not rollouts or (config.overlong is None and not config.missing_eos_penalty):
        return list(rollouts)
    cost_B = torch.tensor([config.missing_eos_penalty * _is_cut(rollout) for rollout in rollouts])
    if config.overlong is not None:
        lengths_B = torch.tensor([len(rollout.completion.token_ids) for rollout in rollouts])
        too_long_B = overlong_penalty(lengths_B, config.overlong.max_length, config.overlong.buffer)
        cost_B = cost_B - config.overlong.penalty * too_long_B
    pairs = zip(rollouts, cost_B.tolist(), strict=True)
    return [replace(rollout, reward=reward_of(rollout) - cost) for rollout, cost in pairs]


def _is_cut(rollout: Rollout) -> bool:
    return rollout.completion.finish_reason == "length"


def reward_of(rollout: Rollout) -> float:
    """The reward of a scored rollout."""
    assert rollout.reward is not None
    return rollout.reward
