"""Rewards that ask no model: a constant as a control."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.config import PartConfig
from rlhf.protocols import Parts
from rlhf.types import Rollout


class ConstantConfig(PartConfig):
    """Options of `constant`."""

    value: float = 0.0


class Constant:
    """The same for every completion: a control, under which nothing must be learned."""

    def __init__(self, config: ConstantConfig, parts: Parts) -> None:
        self.value = config.value

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [self.value] * len(rollouts)
