"""AdamW as every engine runs it: parameter groups, the schedule, clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rlhf.config import OptimizerConfig


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over what is trainable; only matrices decay, norms and biases do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps
    )


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """The rate of the step after `step` finished ones: a linear warm-up, then the schedule down to its end.

    The first step of a warm-up of w steps has 1/w of the rate, not zero: no step is wasted.
    """
    warmup_steps = round(config.warmup * num_steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
    falling = {"constant": 1.0, "linear": 1.0 - progress, "cosine": (1.0 + math.cos(math.pi * progress)) / 2}
    if config.schedule == "constant":
        return config.lr
    return config.lr * (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * falling[config.schedule])


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Global L2 norm; NaN or infinite where any gradient is."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clip(parameters: Iterable[nn.Parameter], norm: Tensor, max_norm: float) -> None:
    """Scale gradients by `max_norm / (norm + 1e-6)` where that is below one, as torch and DeepSpeed do."""
    torch.nn.utils.clip_grads_with_norm_([p for p in parameters if p.grad is not None], max_norm, norm)
