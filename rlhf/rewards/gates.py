"""Rewards that are asked only about what another reward lets pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlhf.config import RewardPart
from rlhf.errors import ConfigError, nearest
from rlhf.rewards.asking import AskedReward
from rlhf.types import Score

Judged = Mapping[str, Score]
"""What each part said of one rollout; parts whose gate is shut are absent."""


def passes(config: RewardPart, known: Judged) -> bool:
    """Whether its gate is open. One that failed or did not apply is shut: nothing says that it was passed."""
    if config.only_if is None:
        return True
    score = known.get(config.only_if.reward, Score())
    return score.error is None and score.value is not None and score.value >= config.only_if.at_least


def waves(parts: Sequence[AskedReward]) -> list[list[AskedReward]]:
    """Parts in an order in which gates come before what they guard; those of one wave need not wait for each other."""
    waves: list[list[AskedReward]] = []
    known: set[str] = set()
    left = list(parts)
    while left:
        wave = [part for part in left if part.config.only_if is None or part.config.only_if.reward in known]
        if not wave:
            raise ConfigError(_shut(left[0], [part.name for part in parts]))
        waves.append(wave)
        known |= {part.name for part in wave}
        left = [part for part in left if part not in wave]
    return waves


def _shut(part: AskedReward, names: Sequence[str]) -> str:
    gate = part.config.only_if
    assert gate is not None
    others = [name for name in names if name != part.name]
    if gate.reward in others:
        return f"reward {part.name!r}: only_if names {gate.reward!r}, which waits for {part.name!r} in turn"
    known = f"{nearest(gate.reward, others)} Known: {', '.join(others) or 'none beside it'}."
    return f"reward {part.name!r}: only_if names {gate.reward!r}, which is no reward here.{known}"
