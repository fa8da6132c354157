"""The models that judge in a stage, as rewards ask for them: every member of an ensemble, every head of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf.config import ModelConfig, RoleSpec
from rlhf.data.encode import Encoder
from rlhf.errors import ConfigError
from rlhf.protocols import HeadScores, JudgingRole
from rlhf.types import HeadedRewardOutput, RewardOutput, Rollout, SteppedCompletion

ONE_HEAD = "score"
"""What the only head of a model is called here, whatever its checkpoint says."""


class RoleModels:
    """Asks the engines of a stage's `reward_model` and `cost_model`, all members at once where those are apart."""

    def __init__(
        self,
        specs: Mapping[str, RoleSpec],
        engines: Mapping[str, Any],
        encoder: Encoder,
        together: Callable[..., list[Any]],
    ) -> None:
        self._specs, self._engines, self._encoder, self._together = specs, engines, encoder, together

    def heads(self, role: JudgingRole) -> list[tuple[str, ...]]:
        """Names of the heads of each member."""
        return [head_names(self._specs[name].model) for name in self._members(role)]

    def scores(self, role: JudgingRole, rollouts: Sequence[Rollout]) -> list[HeadScores]:
        """Of each member, the scores of the rollouts by head."""
        batch = self._encoder.rollout_batch(rollouts)
        members = self._members(role)
        outputs = self._together(*[lambda name=name: self._engines[name].forward(batch) for name in members])
        return [_by_head(output, self._specs[name].model) for name, output in zip(members, outputs, strict=True)]

    def step_scores(self, role: JudgingRole, rollouts: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        """Of each member, the scores of the steps of each rollout. One too long to be judged has none."""
        rows = [self._encoder.encode_stepwise(_stepped(rollout, separator), separator) for rollout in rollouts]
        fitting = [number for number, row in enumerate(rows) if row is not None]
        members: list[list[list[float]]] = [[[] for _ in rollouts] for _ in self._members(role)]
        if fitting:
            batch = self._encoder.step_batch([row for row in rows if row is not None])
            names = self._members(role)
            outputs = self._together(*[lambda name=name: self._engines[name].forward(batch) for name in names])
            for scores, output in zip(members, outputs, strict=True):
                for number, row_T, ends_T in zip(fitting, output.scores, batch.response_mask, strict=True):
                    scores[number] = row_T[ends_T].tolist()
        return members

    def _members(self, role: JudgingRole) -> list[str]:
        names = [name for name, spec in self._specs.items() if spec.role == role]
        if not names:
            raise ConfigError(f"a reward asks for the stage's {role}_model, and none is named")
        return names


def _stepped(rollout: Rollout, separator: str) -> SteppedCompletion:
    """A sampled completion in the steps its text has; one that says nothing is one empty step."""
    steps = tuple(step for step in rollout.completion.text.split(separator) if step.strip()) or ("",)
    return SteppedCompletion(prompt=rollout.prompt, steps=steps, labels=(False,) * len(steps))


def _by_head(output: RewardOutput, model: ModelConfig) -> HeadScores:
    if not isinstance(output, HeadedRewardOutput):
        return {ONE_HEAD: output.scores_B.tolist()}
    columns: list[list[float]] = output.heads_BH.T.tolist()
    return dict(zip(head_names(model), columns, strict=True))


def head_names(model: ModelConfig) -> tuple[str, ...]:
    """Of a trained reward model, as its checkpoint names them; `score` where there is one."""
    from rlhf.engines.pretrained import saved_labels

    labels = saved_labels(model)
    return tuple(labels[number] for number in sorted(labels)) if len(labels) > 1 else (ONE_HEAD,)
