"""The built-in engines; a factory loads its libraries only when a run builds it."""

from __future__ import annotations

from typing import Any

from rlhf.config import ModelConfig, RoleSpec
from rlhf.engines.settings import DeepSpeedConfig, TorchConfig, TransformersRolloutConfig, VLLMRolloutConfig
from rlhf.hookspecs import hookimpl
from rlhf.protocols import RolloutEngine, TrainEngine
from rlhf.registry import Register


def torch_engine(config: TorchConfig, spec: RoleSpec) -> TrainEngine[Any]:
    """One process."""
    from rlhf.engines.memory_faults import TO_HOLD, memory_named
    from rlhf.engines.torch_engine import TorchEngine

    with memory_named(f"the {spec.role}", f"loading {spec.model.path}", TO_HOLD):
        return TorchEngine(config, spec)


def deepspeed_engine(config: DeepSpeedConfig, spec: RoleSpec) -> TrainEngine[Any]:
    """ZeRO over the processes of a group."""
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine
    from rlhf.engines.memory_faults import TO_HOLD, memory_named

    with memory_named(f"the {spec.role}", f"loading {spec.model.path}", TO_HOLD):
        return DeepSpeedEngine(config, spec)


def transformers_rollout(config: TransformersRolloutConfig, model: ModelConfig) -> RolloutEngine:
    """Generation without another library."""
    from rlhf.engines.memory_faults import TO_HOLD, memory_named
    from rlhf.engines.transformers_rollout import TransformersRollout

    with memory_named("the rollout engine", f"loading {model.path}", TO_HOLD):
        engine: RolloutEngine = TransformersRollout(config, model)
    return engine


def vllm_rollout(config: VLLMRolloutConfig, model: ModelConfig) -> RolloutEngine:
    """Generation by vLLM."""
    from rlhf.engines.memory_faults import memory_named
    from rlhf.engines.vllm_rollout import VLLMRollout

    lower = "rollout.engine.options.gpu_memory_utilization (cache_gib without a GPU) or rollout.engine.max_sequences"
    with memory_named("the rollout engine", f"loading {model.path}", lower):
        engine: RolloutEngine = VLLMRollout(config, model)
    return engine


@hookimpl
def register_train_engines(register: Register) -> None:
    """`torch` and `deepspeed`."""
    register("torch", torch_engine, config=TorchConfig)
    register("deepspeed", deepspeed_engine, config=DeepSpeedConfig)


@hookimpl
def register_rollout_engines(register: Register) -> None:
    """`transformers` and `vllm`."""
    register("transformers", transformers_rollout, config=TransformersRolloutConfig)
    register("vllm", vllm_rollout, config=VLLMRolloutConfig)
