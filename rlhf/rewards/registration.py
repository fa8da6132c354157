"""The built-in rewards, registered through the same hook as a guest's."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.registry import Register
from rlhf.rewards.builtin import Constant, ConstantConfig
from rlhf.rewards.model import CostModelReward, ModelRewardConfig, RewardModelReward


@hookimpl
def register_rewards(register: Register) -> None:
    """Add `reward_model`, `cost_model` and `constant`."""
    register("reward_model", RewardModelReward, config=ModelRewardConfig)
    register("cost_model", CostModelReward, config=ModelRewardConfig)
    register("constant", Constant, config=ConstantConfig)
