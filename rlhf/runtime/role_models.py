"""The models that judge in a stage, as rewards ask for them: every member of an ensemble, every head of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf.config import ModelConfig, RoleSpec
from rlhf.data.encode import Encoder
from rlhf.errors import ConfigError
from rlhf.protocols import HeadScores, JudgingRole
from rlhf.types import HeadedRewardOutput, RewardOutput, Rollout

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

    def _members(self, role: JudgingRole) -> list[str]:
        names = [name for name, spec in self._specs.items() if spec.role == role]
        if not names:
            raise ConfigError(f"a reward asks for the stage's {role}_model, and none is named")
        return names


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
