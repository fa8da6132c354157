"""What stays in memory of a role between and around its micro-batches, for each way engines can hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlhf.planning.replica import Format, Work

BYTES: dict[Format, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4 = 0.5 + (1 + 4 / 256) / 64
"""Bytes of a weight of four bits with a byte for every block of 64, and a float for every 256 of those (QLoRA)."""
ZERO_BUCKET = 500_000_000
"""Numbers in a bucket of gradients that DeepSpeed reduces at a time, its default, which engines keep."""
ZERO_LIVE = 1_000_000_000
"""Numbers of gathered weights that ZeRO-3 keeps at a time, its default."""

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Spread:
    """How a role's processes hold it."""

    ranks: int = 1
    engine: Literal["torch", "deepspeed"] = "torch"
    zero_stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    device: Device = "cpu"
    pieces: int = 2
    """Micro-batches in an optimizer step of one process."""

    @property
    def sharded(self) -> bool:
        """DeepSpeed wraps the model and holds parts of it in each process."""
        return self.engine == "deepspeed" and self.zero_stage > 0


@dataclass(frozen=True)
class Standing:
    """Bytes in each process, on its device and, where offloaded, in the host's memory."""

    weights: float
    gathered: float
    """Of sharded weights, what is whole for the time of a pass."""
    gradients: float
    bucket: float
    """Where gradients are collected before they are added up over processes."""
    optimizer: float
    """Moments, and the copy of the weights that ZeRO steps."""
    stepping: float
    """For the time of an optimizer step."""
    host: float


def weight_bytes(work: Work) -> float:
    """All of the model's weights, adapters included."""
    network, size = work.network, BYTES[work.weights]
    if work.lora is None:
        return float(network.parameters * size)
    adapters = network.adapter_parameters(work.lora) * BYTES[work.adapters]
    small = sum(layer.size for layer in network.linears) if work.quantised else 0
    return (network.parameters - small) * size + small * NF4 + adapters


def trained_parameters(work: Work) -> int:
    """Numbers an optimizer steps."""
    if not work.trains:
        return 0
    return work.network.parameters if work.lora is None else work.network.adapter_parameters(work.lora)


def standing(work: Work, spread: Spread) -> Standing:
    """What this role holds in each process of its group."""
    weights, trained = weight_bytes(work), trained_parameters(work)
    size = BYTES[work.weights if work.lora is None else work.adapters]
    if not spread.sharded:
        return Standing(
            weights=weights,
            gathered=0.0,
            gradients=trained * size,
            bucket=0.0,
            optimizer=2 * trained * size,
            stepping=_stepping(work, trained * size, spread.device),
            host=0.0,
        )
    return _under_zero(work, spread, weights, trained * size)


def _under_zero(work: Work, spread: Spread, weights: float, trained: float) -> Standing:
    """Stages 1 to 3; the optimizer steps a copy of this process's part of the weights (`single_partition_of_fp32`)."""
    part = trained / spread.ranks
    optimizer = 3 * part
    gradients = trained if spread.zero_stage == 1 else part
    gathered = 0.0
    if spread.zero_stage == 3:
        whole, weights = weights, weights / spread.ranks
        gathered = min(whole, ZERO_LIVE * BYTES[work.weights]) - (weights if not spread.offload_parameters else 0.0)
    host = 0.0
    if spread.offload_optimizer:
        host, optimizer = optimizer + 2 * part, 0.0
        gradients = 0.0 if spread.zero_stage > 1 else gradients
    if spread.offload_parameters:
        host, weights = host + weights, 0.0
    return Standing(
        weights=weights,
        gathered=gathered,
        gradients=gradients,
        bucket=_bucket(work, spread, trained),
        optimizer=optimizer,
        stepping=0.0 if spread.offload_optimizer else part + _stepping(work, part, spread.device),
        host=host,
    )


def _bucket(work: Work, spread: Spread, trained: float) -> float:
    """Reserved whole on a GPU; where memory is only taken when it is written to, no more than all gradients."""
    if not trained:
        return 0.0
    whole = float(ZERO_BUCKET * BYTES[work.weights if work.lora is None else work.adapters])
    return whole if spread.device == "cuda" else min(whole, trained)


def _stepping(work: Work, trained: float, device: Device) -> float:
    """AdamW makes the root of the second moment: of all parameters at once on a GPU, one after the other on a CPU."""
    if not trained or device == "cuda":
        return trained
    one = work.network.largest * BYTES[work.weights] if work.lora is None else trained
    return 2.0 * min(one, trained)
