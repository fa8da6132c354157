"""Which engines `auto` means."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from typing import Any

from rlhf.config import ModelConfig, Part
from rlhf.errors import ConfigError, UnsupportedModel
from rlhf.protocols import RolloutEngine
from rlhf.recipe import RuntimeConfig
from rlhf.registry import Registry

_VLLM_TAKES = 0.9
"""Of a GPU's memory, where nothing else is said."""


def chosen_engine(part: Part, num_workers: int, *, trained: bool) -> Part:
    """The part to build: `deepspeed` where it is installed and can compile, else `torch`, which is one process.

    A role that is not trained and has one worker needs no ZeRO: it runs on `torch` whatever the trained roles use.
    """
    if part.type == "auto":
        kind = "deepspeed" if deepspeed_works() else "torch"
        part = Part(type=kind, **part.options)
    if part.type == "deepspeed" and not trained and num_workers == 1:
        shared = {key: value for key, value in part.options.items() if key in ("micro_batch_tokens", "packing")}
        part = Part(type="torch", **shared)
    if part.type == "torch" and num_workers > 1:
        raise ConfigError(
            f"engine: torch is one process, and runtime.workers asks for {num_workers}; use engine: deepspeed "
            "(pip install 'rlhf[deepspeed]', and a C++ compiler)"
        )
    return part


def vllm_on_gpu(runtime: RuntimeConfig, gpus: float) -> dict[str, Any]:
    """Options of vLLM for its share of a GPU: that it can sleep, or that it leaves the others their memory."""
    if runtime.placement == "colocated":
        return {"enable_sleep_mode": True}
    return {"gpu_memory_utilization": round(_VLLM_TAKES * gpus, 4)} if 0 < gpus < 1 else {}


def built_rollout(
    part: Part, model: ModelConfig, registry: Registry, on_gpu: Mapping[str, Any] | None = None
) -> tuple[RolloutEngine, str | None]:
    """The rollout engine in this process and, for `auto`, a line that says which one it is and why.

    `auto` is `vllm` where that is installed and runs the model, which only trying tells, and else `transformers`.
    `on_gpu` are vLLM's options where this process has a GPU and the recipe does not say.
    """

    def build(kind: str) -> RolloutEngine:
        options = part.options
        if kind == "vllm" and on_gpu and _has_gpu():
            options = {**options, "options": {**on_gpu, **options.get("options", {})}}
        engine: RolloutEngine = registry.build("rollout_engine", kind, options, model, where="rollout.engine")
        return engine

    if part.type != "auto":
        return build(part.type), None
    if importlib.util.find_spec("vllm") is None:
        return build("transformers"), "rollout.engine auto: transformers, since vLLM is not installed"
    try:
        return build("vllm"), "rollout.engine auto: vllm"
    except UnsupportedModel as error:
        reason = str(error).partition("; set rollout.engine")[0]
        return build("transformers"), f"rollout.engine auto: transformers, since {reason}"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def deepspeed_works() -> bool:
    """DeepSpeed is installed, and there is the compiler it builds its CPU communication with."""
    return importlib.util.find_spec("deepspeed") is not None and any(map(shutil.which, ("c++", "g++", "clang++")))
