"""The built-in algorithms, registered through the same hook as a guest's."""

from __future__ import annotations

from rlhf.algorithms.cost_model import CostModel, CostModelConfig
from rlhf.algorithms.cpo import CPO, CPOConfig
from rlhf.algorithms.denoising import MaskedLM, MaskedLMConfig, SpanCorruption, SpanCorruptionConfig
from rlhf.algorithms.distill import Distill, DistillConfig
from rlhf.algorithms.dpo import DPO, DPOConfig
from rlhf.algorithms.grpo import GRPO, GRPOConfig
from rlhf.algorithms.kto import KTO, KTOConfig
from rlhf.algorithms.online_dpo import OnlineDPO, OnlineDPOConfig
from rlhf.algorithms.orpo import ORPO, ORPOConfig
from rlhf.algorithms.ppo import PPO, PPOConfig
from rlhf.algorithms.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from rlhf.algorithms.process_reward_model import ProcessRewardModel, ProcessRewardModelConfig
from rlhf.algorithms.raft import RAFT, RAFTConfig
from rlhf.algorithms.reinforce_pp import ReinforcePP, ReinforcePPConfig
from rlhf.algorithms.remax import ReMax, ReMaxConfig
from rlhf.algorithms.reward_model import RewardModel, RewardModelConfig
from rlhf.algorithms.rloo import RLOO, RLOOConfig
from rlhf.algorithms.simpo import SimPO, SimPOConfig
from rlhf.algorithms.supervised import SFT, Pretrain, SFTConfig, SupervisedConfig
from rlhf.hookspecs import hookimpl
from rlhf.registry import Register


@hookimpl
def register_algorithms(register: Register) -> None:
    """Add the methods."""
    register("pretrain", Pretrain, config=SupervisedConfig)
    register("masked_lm", MaskedLM, config=MaskedLMConfig)
    register("span_corruption", SpanCorruption, config=SpanCorruptionConfig)
    register("sft", SFT, config=SFTConfig)
    register("reward_model", RewardModel, config=RewardModelConfig)
    register("cost_model", CostModel, config=CostModelConfig)
    register("process_reward_model", ProcessRewardModel, config=ProcessRewardModelConfig)
    register("ppo", PPO, config=PPOConfig)
    register("ppo_lagrangian", PPOLagrangian, config=PPOLagrangianConfig)
    register("grpo", GRPO, config=GRPOConfig)
    register("dpo", DPO, config=DPOConfig)
    register("kto", KTO, config=KTOConfig)
    register("orpo", ORPO, config=ORPOConfig)
    register("simpo", SimPO, config=SimPOConfig)
    register("cpo", CPO, config=CPOConfig)
    register("rloo", RLOO, config=RLOOConfig)
    register("reinforce_pp", ReinforcePP, config=ReinforcePPConfig)
    register("remax", ReMax, config=ReMaxConfig)
    register("raft", RAFT, config=RAFTConfig)
    register("online_dpo", OnlineDPO, config=OnlineDPOConfig)
    register("distill", Distill, config=DistillConfig)
