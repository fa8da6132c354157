"""The recipe's schema: frozen, every key checked, every field explained.

A table with `type` names a part (algorithm, data, reward, engine, ...). Its other keys belong to that part's own
config class, which the part registered; `rlhf.recipe` checks them once plugins are loaded, before any model is.
"""

from __future__ import annotations

from rlhf.config.checkpoints import CheckpointConfig, KeepBestConfig
from rlhf.config.parts import Part, PartConfig
from rlhf.config.rewards import RESERVED_OPTIONS, Gate, RewardPart
from rlhf.config.settings import (
    AnswersConfig,
    Kind,
    LoraConfig,
    ModelConfig,
    NewModelConfig,
    NewTokenizerConfig,
    OptimizerConfig,
    RoleConfig,
    RoleSpec,
    RolloutConfig,
)

__all__ = [
    "RESERVED_OPTIONS",
    "AnswersConfig",
    "CheckpointConfig",
    "Gate",
    "KeepBestConfig",
    "Kind",
    "LoraConfig",
    "ModelConfig",
    "NewModelConfig",
    "NewTokenizerConfig",
    "OptimizerConfig",
    "Part",
    "PartConfig",
    "RewardPart",
    "RoleConfig",
    "RoleSpec",
    "RolloutConfig",
]
