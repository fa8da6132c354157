"""The group of processes a DeepSpeed engine lives in: who we are, and who else is there.

Everything comes from the environment, as torchrun, Ray Train and our own actors set it: RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import warnings
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from rlhf.engines.cpu_collectives import load_collectives
from rlhf.errors import ConfigError, ResourceError


@dataclass(frozen=True)
class Processes:
    """This process among those that train one role."""

    rank: int
    world_size: int
    local_rank: int

    @classmethod
    def join(cls) -> Processes:
        """Join the group the environment names, or make one of this process alone. Idempotent."""
        here = cls(*(_whole_number(name, default) for name, default in _VARIABLES.items()))
        if here.world_size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise ConfigError(f"WORLD_SIZE is {here.world_size} but MASTER_ADDR and MASTER_PORT are not set")
        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            _need_compiler()
        if not dist.is_initialized():
            here._start()
        return here

    def _start(self) -> None:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        if "MASTER_PORT" not in os.environ:
            os.environ["MASTER_PORT"] = str(_free_port())
        os.environ.update(RANK=str(self.rank), WORLD_SIZE=str(self.world_size), LOCAL_RANK=str(self.local_rank))
        if torch.cuda.is_available():
            torch.cuda.set_device(self.local_rank)
        from deepspeed import init_distributed
        from deepspeed.utils import logger

        logger.setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")  # DeepSpeed's calls
        if not torch.cuda.is_available():
            load_collectives()
        init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)

    def sum(self, tensor: Tensor) -> Tensor:
        """Over the processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, tensor: Tensor) -> Tensor:
        """Over the processes, element by element, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape, stacked by rank in a new first dimension."""
        everyone = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(everyone, tensor.contiguous())
        return torch.stack(everyone)


_VARIABLES = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def _whole_number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdigit():
        raise ConfigError(f"the environment variable {name} is {value!r}, not a whole number")
    return int(value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _need_compiler() -> None:
    """On CPU DeepSpeed builds its shared-memory collectives on first use, and fails deep inside where it cannot."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ResourceError(
            f"DeepSpeed on CPU builds a C++ extension once, and there is no compiler {compiler!r}: install g++ and "
            "ninja, or set engine: {type: torch}"
        )
