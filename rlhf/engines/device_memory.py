"""A model and its optimizer between a device and CPU memory, where they wait while another engine has the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def move(model: nn.Module, optimizer: torch.optim.Optimizer | None, device: torch.device) -> None:
    """Put parameters, buffers and optimizer state there; what refers to a parameter goes on doing so."""
    nn.Module.to(model, device)  # not the `to` of transformers, which refuses some models
    if optimizer is not None:
        move_state(optimizer, device)


def move_state(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Put the moments there. Counts of steps stay on the CPU, where AdamW keeps them."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim():
                state[name] = value.to(device)


def release() -> None:
    """Give back to the device what torch has taken from it and no longer uses."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
