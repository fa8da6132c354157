"""Optimizer steps that were taken in one process, taken again by two under DeepSpeed ZeRO-2."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rlhf.config import RoleSpec
from rlhf.engines.deepspeed_engine import DeepSpeedEngine
from rlhf.engines.settings import DeepSpeedConfig


@dataclass
class Recording:
    """What one engine of a run was asked to do, and the weights it ended with."""

    spec: RoleSpec
    steps: list[tuple[Any, Any]] = field(default_factory=list)
    """(batch, loss) of each optimizer step."""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def work(rank: int, world_size: int, port: int, folder: str) -> None:
    """Replay every recording of the folder; the first process writes how far the weights are from the recorded ones."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for path in sorted(Path(folder).glob("*.recording")):
        recording: Recording = pickle.loads(path.read_bytes())  # written by the test itself
        engine = DeepSpeedEngine(DeepSpeedConfig(zero_stage=2, micro_batch_tokens=30), recording.spec)
        for batch, loss in recording.steps:
            engine.train_step(batch, loss)
        weights = dict(engine.weights())
        gap = max(float((weights[name] - tensor).abs().max()) for name, tensor in recording.weights.items())
        if rank == 0:
            path.with_suffix(".gap").write_text(str(gap))
    torch.distributed.destroy_process_group()
