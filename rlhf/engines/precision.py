"""Which device and which number formats a role uses."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf.config import ModelConfig
from rlhf.engines.quantized import is_quantized


def local_device(local_rank: int = 0) -> torch.device:
    """The GPU of this local rank where there is one, else the CPU."""
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def handed_dtype(network: Any, name: str, tensor: Tensor, compute: torch.dtype) -> torch.dtype:
    """The format in which a weight is held by an engine that generates in `compute`.

    Few networks name weights that transformers keeps in float32 whatever the rest is in.
    """
    if not tensor.is_floating_point() and not is_quantized(tensor):
        return tensor.dtype
    kept = getattr(network, "_keep_in_fp32_modules_strict", None) or ()
    return torch.float32 if any(part in name for part in kept) else compute


@dataclass(frozen=True)
class Precision:
    """`compute` is the format of products; `storage` that of the weights in memory."""

    compute: torch.dtype
    storage: torch.dtype
    device_type: str

    @classmethod
    def of(cls, model: ModelConfig, device: torch.device, *, full_weights: bool) -> Precision:
        """`full_weights`: they themselves are trained, so they stay float32, as small updates vanish in bfloat16."""
        auto = torch.float32 if device.type == "cpu" else torch.bfloat16
        compute = {"auto": auto, "float32": torch.float32, "bfloat16": torch.bfloat16}[model.dtype]
        return cls(compute=compute, storage=torch.float32 if full_weights else compute, device_type=device.type)

    def autocast(self) -> AbstractContextManager[object]:
        """Run products in `compute` while the weights stay as they are."""
        if self.compute == torch.float32:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.compute)
