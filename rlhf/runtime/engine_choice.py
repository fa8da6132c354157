"""Which engines `auto` means."""

from __future__ import annotations

import importlib.util
import shutil

from rlhf.config import ModelConfig, Part
from rlhf.errors import ConfigError, UnsupportedModel
from rlhf.protocols import RolloutEngine
from rlhf.registry import Registry


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


def built_rollout(part: Part, model: ModelConfig, registry: Registry) -> tuple[RolloutEngine, str | None]:
    """The rollout engine in this process and, for `auto`, a line that says which one it is and why.

    `auto` is `vllm` where that is installed and runs the model, which only trying tells, and else `transformers`.
    """

    def build(kind: str) -> RolloutEngine:
        engine: RolloutEngine = registry.build("rollout_engine", kind, part.options, model, where="rollout.engine")
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


def deepspeed_works() -> bool:
    """DeepSpeed is installed, and there is the compiler it builds its CPU communication with."""
    return importlib.util.find_spec("deepspeed") is not None and any(map(shutil.which, ("c++", "g++", "clang++")))
