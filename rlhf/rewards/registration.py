"""The built-in rewards, registered through the same hook as a guest's."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.registry import Register
from rlhf.rewards.builtin import Constant, ConstantConfig, NumTokens, NumTokensConfig
from rlhf.rewards.exact_match import ExactMatch, ExactMatchConfig
from rlhf.rewards.format import Format, FormatConfig
from rlhf.rewards.graded import Graded, GradedConfig
from rlhf.rewards.json_schema import JsonSchema, JsonSchemaConfig
from rlhf.rewards.length import Length, LengthConfig
from rlhf.rewards.model import (
    CostModelReward,
    ModelRewardConfig,
    ProcessReward,
    ProcessRewardConfig,
    RewardModelReward,
)
from rlhf.rewards.numeric_match import NumericMatch, NumericMatchConfig
from rlhf.rewards.regex_match import RegexMatch, RegexMatchConfig
from rlhf.rewards.remote import Remote, RemoteConfig
from rlhf.rewards.repetition import Repetition, RepetitionConfig


@hookimpl
def register_rewards(register: Register) -> None:
    """Add what the stage's models say, what graders and services say, and what can be told by rules."""
    register("reward_model", RewardModelReward, config=ModelRewardConfig)
    register("cost_model", CostModelReward, config=ModelRewardConfig)
    register("process_reward", ProcessReward, config=ProcessRewardConfig)
    register("graded", Graded, config=GradedConfig)
    register("num_tokens", NumTokens, config=NumTokensConfig)
    register("constant", Constant, config=ConstantConfig)
    register("remote", Remote, config=RemoteConfig)
    register("exact_match", ExactMatch, config=ExactMatchConfig)
    register("regex_match", RegexMatch, config=RegexMatchConfig)
    register("numeric_match", NumericMatch, config=NumericMatchConfig)
    register("format", Format, config=FormatConfig)
    register("json_schema", JsonSchema, config=JsonSchemaConfig)
    register("length", Length, config=LengthConfig)
    register("repetition", Repetition, config=RepetitionConfig)
