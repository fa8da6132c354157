"""The built-in rewards, registered through the same hook as a guest's."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.registry import Register
from rlhf.rewards.builtin import Constant, ConstantConfig, RewardModelReward, RewardModelRewardConfig


@hookimpl
def register_rewards(register: Register) -> None:
    """Add `reward_model` and `constant`."""
    register("reward_model", RewardModelReward, config=RewardModelRewardConfig)
    register("constant", Constant, config=ConstantConfig)
