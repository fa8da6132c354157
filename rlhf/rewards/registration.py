"""The built-in rewards, registered through the same hook as a guest's."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.registry import Register
from rlhf.rewards.builtin import Constant, ConstantConfig, NumTokens, NumTokensConfig
from rlhf.rewards.graded import Graded, GradedConfig
from rlhf.rewards.model import (
    CostModelReward,
    ModelRewardConfig,
    ProcessReward,
    ProcessRewardConfig,
    RewardModelReward,
)


@hookimpl
def register_rewards(register: Register) -> None:
    """Add `reward_model`, `cost_model`, `process_reward`, `graded`, `num_tokens` and `constant`."""
    register("reward_model", RewardModelReward, config=ModelRewardConfig)
    register("cost_model", CostModelReward, config=ModelRewardConfig)
    register("process_reward", ProcessReward, config=ProcessRewardConfig)
    register("graded", Graded, config=GradedConfig)
    register("num_tokens", NumTokens, config=NumTokensConfig)
    register("constant", Constant, config=ConstantConfig)
