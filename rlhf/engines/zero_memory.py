"""What ZeRO keeps on a device, to CPU memory and back, by DeepSpeed's own `offload_states` as far as that goes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlhf.engines.device_memory import move, move_data, move_state
from rlhf.engines.settings import DeepSpeedConfig

_CPU = torch.device("cpu")


def park(engine: Any, model: nn.Module, config: DeepSpeedConfig) -> None:
    """Give device memory back; every process must call this, with no gradients pending. What is offloaded stays so."""
    if engine is None or config.zero_stage == 0:
        move(model, engine and engine.optimizer, _CPU)
        return
    if states := _states(engine, model, config):
        engine.offload_states(include=states, pin_memory=False)
    _move_rest(engine, model, config, _CPU)


def unpark(engine: Any, model: nn.Module, config: DeepSpeedConfig, device: torch.device) -> None:
    """Take it back, with the same values."""
    if engine is None or config.zero_stage == 0:
        move(model, engine and engine.optimizer, device)
        return
    if _states(engine, model, config):
        engine.reload_states()
    _move_rest(engine, model, config, device)


def _states(engine: Any, model: nn.Module, config: DeepSpeedConfig) -> list[Any]:
    """What DeepSpeed 0.19 can move itself of a model in training."""
    from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as State

    if not _is_trained(engine) or config.offload_parameters:
        return []
    if config.zero_stage < 3:
        return list(State)
    # In stage 3 it moves the state of its own fused Adam only, and shares of weights only where all are trained.
    weights = [State.lp_params] if all(parameter.requires_grad for parameter in model.parameters()) else []
    return [*weights, State.lp_grads, State.contiguous_grad_buffer]


def _move_rest(engine: Any, model: nn.Module, config: DeepSpeedConfig, device: torch.device) -> None:
    move_data(model.buffers(), device)
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    if config.zero_stage < 3:
        move_data(frozen, device)
        return
    if not config.offload_parameters:
        move_data((_share(parameter) for parameter in frozen), device)
    if _is_trained(engine) and not config.offload_optimizer:
        move_data(engine.optimizer.fp32_partitioned_groups_flat, device)
        move_state(engine.optimizer.optimizer, device)


def _share(parameter: Any) -> Tensor:
    """This process's part of a weight."""
    share: Tensor = parameter.ds_tensor
    return share


def _is_trained(engine: Any) -> bool:
    """Without an optimizer, stage 3 puts something else in its place."""
    return hasattr(engine.optimizer, "optimizer")
