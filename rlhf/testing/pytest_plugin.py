"""The contract as fixtures: `rlhf_contract`, `rlhf_rollout` and `rlhf_rollouts`.

pytest loads this module wherever `rlhf` is installed, so it imports nothing before a fixture is asked for. Leave it out
with `-p no:rlhf`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rlhf.types import Rollout


class Contract:
    """The checks of `rlhf plugins check`; each raises an `AssertionError` that lists what is broken."""

    def __init__(self) -> None:
        from rlhf.testing import check_grader, check_plugin, check_reward

        self.reward = check_reward
        self.grader = check_grader
        self.plugin = check_plugin


@pytest.fixture(scope="session")
def rlhf_contract() -> Contract:
    """`rlhf_contract.reward(my_reward)`, `.grader(my_grader)`, `.plugin(FOLDER)`: see `rlhf.testing`."""
    return Contract()


@pytest.fixture(scope="session")
def rlhf_rollout() -> Callable[..., Rollout]:
    """`rlhf_rollout("Why?", "Because.", reference="So.", level=3)`: a rollout of these texts and columns."""
    from rlhf.testing import rollout

    return rollout


@pytest.fixture
def rlhf_rollouts() -> list[Rollout]:
    """A few everyday questions with answers."""
    from rlhf.testing import ordinary_rollouts

    return ordinary_rollouts()
