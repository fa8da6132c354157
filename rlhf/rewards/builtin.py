"""Rewards that ask nobody: how long a completion is, and a constant as a control."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout


class NumTokensConfig(PartConfig):
    """Options of `num_tokens`."""

    free: int = Field(default=0, ge=0)
    """Tokens that do not count."""


class NumTokens:
    """Tokens of the completion beyond those that are `free`: a cost, or with a negative weight a price of length."""

    def __init__(self, config: NumTokensConfig, parts: Parts) -> None:
        self.free = config.free

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [float(max(0, len(rollout.completion.token_ids) - self.free)) for rollout in rollouts]


class ConstantConfig(PartConfig):
    """Options of `constant`."""

    value: float = 0.0


class Constant:
    """The same for every completion: a control, under which nothing must be learned."""

    def __init__(self, config: ConstantConfig, parts: Parts) -> None:
        self.value = config.value

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [self.value] * len(rollouts)
