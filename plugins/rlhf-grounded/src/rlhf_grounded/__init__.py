"""Honesty against evidence: a grader and a reward that check what a completion claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf import hookimpl
from rlhf_grounded.grounded import GroundedGrader, GroundedReward
from rlhf_grounded.options import GroundedConfig

if TYPE_CHECKING:
    from collections.abc import Callable


@hookimpl
def register_graders(register: Callable[..., None]) -> None:
    """Add the grader `grounded`."""
    register("grounded", GroundedGrader, config=GroundedConfig)


@hookimpl
def register_rewards(register: Callable[..., None]) -> None:
    """Add the reward `grounded`."""
    register("grounded", GroundedReward, config=GroundedConfig)
