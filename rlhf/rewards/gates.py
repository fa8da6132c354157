"""Rewards that are asked only about what another reward lets pass."""

from __future__ import annotations

from collections.abc import Mapping

from rlhf.config import RewardPart
from rlhf.errors import ConfigError, nearest
from rlhf.types import Score

Judged = Mapping[str, Score]
"""What each part said of one rollout; parts whose gate is shut are absent."""


def passes(config: RewardPart, known: Judged) -> bool:
    """Whether its gate is open. One that failed or did not apply is shut: nothing says that it was passed."""
    if config.only_if is None:
        return True
    score = known.get(config.only_if.reward, Score())
    return score.error is None and score.value is not None and score.value >= config.only_if.at_least


def waves(parts: Mapping[str, RewardPart]) -> list[list[str]]:
    """Names in an order in which gates come before what they guard; those of one wave need not wait for each other."""
    found: list[list[str]] = []
    left = dict(parts)
    while left:
        wave = [
            name for name, part in left.items() if part.only_if is None or part.only_if.reward in {*parts} - {*left}
        ]
        if not wave:
            raise ConfigError(_shut(next(iter(left)), parts))
        found.append(wave)
        left = {name: part for name, part in left.items() if name not in wave}
    return found


def _shut(name: str, parts: Mapping[str, RewardPart]) -> str:
    gate = parts[name].only_if
    assert gate is not None
    others = [other for other in parts if other != name]
    if gate.reward in others:
        return f"reward {name!r}: only_if names {gate.reward!r}, which waits for {name!r} in turn"
    known = f"{nearest(gate.reward, others)} Known: {', '.join(others) or 'none beside it'}."
    return f"reward {name!r}: only_if names {gate.reward!r}, which is no reward here.{known}"
