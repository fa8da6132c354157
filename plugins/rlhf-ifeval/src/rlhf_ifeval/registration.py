"""What this package adds to rlhf."""

from __future__ import annotations

from collections.abc import Callable

from rlhf import hookimpl
from rlhf_ifeval.checked import CheckConfig
from rlhf_ifeval.grader import IfevalHelpfulGrader
from rlhf_ifeval.reward import IfevalReward


@hookimpl
def register_rewards(register: Callable[..., None]) -> None:
    """Add `ifeval`."""
    register("ifeval", IfevalReward, config=CheckConfig)


@hookimpl
def register_graders(register: Callable[..., None]) -> None:
    """Add `ifeval_helpful`."""
    register("ifeval_helpful", IfevalHelpfulGrader, config=CheckConfig)
