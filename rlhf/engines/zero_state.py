"""Optimizer state in and out of ZeRO, whole and by parameter, whatever way DeepSpeed has cut it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.engines.checkpoints import SavedTensors, model_tensors, restore_model, trained_parameters

MOMENTS = ("exp_avg", "exp_avg_sq")


def zero_shapes(model: nn.Module, stage: int) -> dict[str, tuple[int, ...]]:
    """Whole shapes of the trained parameters."""
    trained = trained_parameters(model)
    return {name: tuple(getattr(p, "ds_shape", p.shape) if stage == 3 else p.shape) for name, p in trained.items()}


def zero_tensors(engine: Any, model: nn.Module, stage: int, steps: int) -> Iterator[tuple[str, Tensor]]:
    """Trained weights and their moments, one at a time; every process must take them all."""
    if stage == 0:
        yield from model_tensors(model, engine.optimizer)
        return
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if stage < 3 and steps > 0:
        _link_moments(engine.optimizer)
    for name, parameter in trained_parameters(model).items():
        yield f"weight.{name}", safe_get_full_fp32_param(parameter)
        if steps > 0:
            yield f"step.{name}", torch.tensor(float(steps))
            for moment in MOMENTS:
                yield f"{moment}.{name}", safe_get_full_optimizer_state(parameter, moment)


@torch.no_grad()
def restore_zero(engine: Any, model: nn.Module, stage: int, tensors: SavedTensors) -> None:
    """Put whole tensors back into this process's share of weights and moments."""
    if stage == 0:
        restore_model(model, engine.optimizer, tensors)
        return
    _create_moments(engine.optimizer, stage, tensors)
    for name, parameter in trained_parameters(model).items():
        saved = {moment: tensors.get(f"{moment}.{name}") for moment in MOMENTS}
        put = _put_share if stage == 3 else _put_whole
        put(parameter, tensors[f"weight.{name}"], saved)


def drop_gradients(engine: Any, model: nn.Module, stage: int) -> None:
    """Forget what backward passes have added up since the last step, in the shares ZeRO keeps of it too."""
    if stage == 0:
        model.zero_grad(set_to_none=True)
        return
    optimizer = engine.optimizer
    optimizer.zero_grad(set_to_none=True)
    if stage < 3:  # stage 3 has done so in zero_grad
        optimizer.micro_step_id = -1  # the next backward pass is a step's first: it sets what is on the CPU
    if optimizer.cpu_offload if stage < 3 else optimizer.offload_optimizer:
        optimizer.reset_cpu_buffers()
    elif stage == 3:
        optimizer.averaged_gradients = {}
    else:
        for group in optimizer.averaged_gradients:
            optimizer.averaged_gradients[group] = None
            optimizer.all_grad_tensors[group] = None


def _create_moments(optimizer: Any, stage: int, tensors: SavedTensors) -> None:
    """A fresh optimizer has no moments before its first step; DeepSpeed's accessors need them to be there."""
    step = next((tensors[name] for name in tensors if name.startswith("step.")), None)
    if step is None:
        return
    flats = optimizer.fp32_partitioned_groups_flat if stage == 3 else optimizer.single_partition_of_fp32_groups
    for flat in flats:
        moments = {moment: torch.zeros_like(flat) for moment in MOMENTS}
        optimizer.optimizer.state[flat] = {"step": step.clone(), **moments}
    if stage < 3:
        _link_moments(optimizer)


def _link_moments(optimizer: Any) -> None:
    """DeepSpeed 0.19 links moments to parameters when the first of several groups has stepped, the others too early."""
    optimizer._hp_optimizer_states_linked = False
    optimizer._lazy_init_hp_params_optimizer_state()


def _put_whole(parameter: nn.Parameter, weight: Tensor, moments: dict[str, Tensor | None]) -> None:
    """Stages 1 and 2: the weight is whole everywhere, its float32 copy and moments are shares of flat buffers."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    parameter.data.copy_(weight)
    safe_set_full_fp32_param(parameter, weight.to(parameter.device))
    for moment, value in moments.items():
        if value is not None:
            safe_set_full_optimizer_state(parameter, value.to(parameter.device), moment)


def _put_share(parameter: nn.Parameter, weight: Tensor, moments: dict[str, Tensor | None]) -> None:
    """Stage 3: everything is shares, padded where the size does not divide by the number of processes."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    with GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(weight)
    safe_set_local_fp32_param(parameter, _share(parameter, weight))
    for moment, value in moments.items():
        if value is not None:
            safe_set_local_optimizer_state(parameter, _share(parameter, value), moment)


def _share(parameter: Any, value: Tensor) -> Tensor:
    size, rank = parameter.ds_tensor.ds_numel, torch.distributed.get_rank()
    missing = size * torch.distributed.get_world_size() - value.numel()
    return nn.functional.pad(value.flatten(), (0, missing))[size * rank : size * (rank + 1)].to(
        parameter.ds_tensor.device
    )
