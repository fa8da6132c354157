"""The built-in algorithms, registered through the same hook as a guest's."""

from __future__ import annotations

from rlhf.algorithms.distill import Distill, DistillConfig
from rlhf.algorithms.grpo import GRPO, GRPOConfig
from rlhf.algorithms.ppo import PPO, PPOConfig
from rlhf.algorithms.raft import RAFT, RAFTConfig
from rlhf.algorithms.reward_model import RewardModel, RewardModelConfig
from rlhf.algorithms.supervised import SFT, Pretrain, SFTConfig, SupervisedConfig
from rlhf.hookspecs import hookimpl
from rlhf.registry import Register


@hookimpl
def register_algorithms(register: Register) -> None:
    """Add the methods."""
    register("pretrain", Pretrain, config=SupervisedConfig)
    register("sft", SFT, config=SFTConfig)
    register("reward_model", RewardModel, config=RewardModelConfig)
    register("ppo", PPO, config=PPOConfig)
    register("grpo", GRPO, config=GRPOConfig)
    register("raft", RAFT, config=RAFTConfig)
    register("distill", Distill, config=DistillConfig)
