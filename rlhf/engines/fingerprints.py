"""Fingerprints of weights: a fixed number of elements of each, read where they live, so that nothing is copied whole.

Both sides of a hand-over take them: a trainer of its live parameters, a rollout engine of what it holds afterwards.
They are equal where every weight has arrived whole, in its own place, in the format it is computed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.config import ModelConfig
from rlhf.engines.export import Gather, live_weights, whole
from rlhf.engines.lora import ADAPTER, adapter_weights
from rlhf.engines.precision import handed_dtype
from rlhf.engines.quantized import is_quantized, plain, shape_of
from rlhf.types import Fingerprint

NUM_SAMPLED = 64
"""Elements looked at in each weight."""

Sample = Callable[[Tensor, Tensor], Tensor]
"""Elements of a tensor at these places of its flat form, `[N]`; where it is spread over processes, zero for those
elsewhere.
"""


def fingerprints_of(weights: Iterable[tuple[str, Tensor]]) -> dict[str, Fingerprint]:
    """Of tensors as they are, by name."""
    items = []
    for name, tensor in weights:
        items.append((name, tuple(tensor.shape), tensor.dtype, sampled(tensor, places(tensor.numel()))))
    return _told(items, set())


def sampled(tensor: Tensor, places_N: Tensor) -> Tensor:
    """Of a tensor that is here whole."""
    return tensor.detach().reshape(-1).take(places_N.to(tensor.device))


@cache
def places(numel: int) -> Tensor:
    """Places spread evenly over a flat tensor, ends included, `[N]`; each once where it has fewer elements."""
    number = min(NUM_SAMPLED, numel)
    return torch.arange(number) * (numel - 1) // max(number - 1, 1)


@torch.no_grad()
def live_fingerprints(
    network: PreTrainedModel,
    model: ModelConfig,
    compute: torch.dtype,
    *,
    sample: Sample = sampled,
    summed: Callable[[Tensor], Tensor] = lambda values: values,
    gather: Gather = whole,
) -> dict[str, Fingerprint]:
    """Of a network in training, as it hands its weights on: in the format `compute`, adapters added or apart.

    `sample`, `summed` (over the processes) and `gather` are for parameters that are spread over processes.
    """
    found = list(live_weights(network))
    factors: dict[str, float] = {}
    if model.adapters_apart:
        adapters = list(adapter_weights(network))
        found = [(name, tensor, None) for name, tensor, _ in found] + [(name, at, None) for name, at, _ in adapters]
        factors = {name: factor for name, _, factor in adapters}
    shapes = [shape_of(tensor) for _, tensor, _ in found]
    spots = [places(torch.Size(shape).numel()) for shape in shapes]
    here = [sample(_whole_here(tensor), at).float() for (_, tensor, _), at in zip(found, spots, strict=True)]
    pieces = torch.split(summed(torch.cat(here)), [len(at) for at in spots])
    items, merged = [], set()
    for (name, tensor, layer), shape, at, values in zip(found, shapes, spots, pieces, strict=True):
        dtype = handed_dtype(network, name, tensor, compute)
        if layer is None:
            items.append((name, shape, dtype, (values * factors.get(name, 1.0)).to(dtype)))
        else:
            items.append((name, shape, dtype, (values + _delta(layer, shape, at, gather)).to(dtype)))
            merged.add(name)
    return _told(items, merged)


def _whole_here(tensor: Tensor) -> Tensor:
    """Four bits are looked at by what they stand for; all else where it is, with what ZeRO-3 hung on it."""
    return plain(tensor) if is_quantized(tensor) else tensor


def _delta(layer: Any, shape: tuple[int, ...], places_N: Tensor, gather: Gather) -> Tensor:
    """`(alpha / r) B A` at these places, `[N]`."""
    down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    with gather([down, up]):
        rows, columns = places_N // shape[1], places_N % shape[1]
        if layer.fan_in_fan_out:  # the weight is stored the other way round
            rows, columns = columns, rows
        product: Tensor = (up[rows.to(up.device)].float() * down[:, columns.to(down.device)].float().T).sum(dim=1)
        return product * float(layer.scaling[ADAPTER])


def sampled_shard(rank: int) -> Sample:
    """Of parameters that ZeRO-3 has cut: each process reads what lies in its own share."""

    def sample(tensor: Any, places_N: Tensor) -> Tensor:
        if not hasattr(tensor, "ds_tensor"):
            whole_here = sampled(tensor, places_N)
            return whole_here if rank == 0 else torch.zeros_like(whole_here)
        share = tensor.ds_tensor.detach().reshape(-1)
        at = places_N.to(share.device) - rank * tensor.ds_tensor.ds_numel
        mine = (at >= 0) & (at < tensor.ds_tensor.ds_numel)
        return torch.where(mine, share[torch.where(mine, at, 0)], 0)

    return sample


def _told(items: list[tuple[str, tuple[int, ...], torch.dtype, Tensor]], merged: set[str]) -> dict[str, Fingerprint]:
    """Elements of all weights brought to the host at once."""
    if not items:
        return {}
    device = items[0][3].device
    values = torch.cat([piece.to(device, torch.float32) for *_, piece in items]).tolist()
    told, start = {}, 0
    for name, shape, dtype, piece in items:
        end = start + len(piece)
        told[name] = Fingerprint(shape=shape, dtype=str(dtype), values=tuple(values[start:end]), merged=name in merged)
        start = end
    return told
