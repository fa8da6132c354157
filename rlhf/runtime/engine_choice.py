"""Which train engine `engine: auto` means."""

from __future__ import annotations

import importlib.util
import shutil

from rlhf.config import Part
from rlhf.errors import ConfigError


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


def deepspeed_works() -> bool:
    """DeepSpeed is installed, and there is the compiler it builds its CPU communication with."""
    return importlib.util.find_spec("deepspeed") is not None and any(map(shutil.which, ("c++", "g++", "clang++")))
