"""What TRL's trainers ask of their surroundings, so that a loss can be called on plain tensors."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.types import TokenBatch


class GivenLogprobs(nn.Module):
    """A model whose log-probs `[R, T]` are given; like TRL's fused head it answers for tokens 1 to T - 1."""

    is_gradient_checkpointing = False

    def __init__(self, logprobs: Tensor) -> None:
        super().__init__()
        self.logprobs = nn.Parameter(logprobs.clone())

    def forward(self, labels: Tensor, **_: object) -> SimpleNamespace:
        shifted = self.logprobs[:, 1:]
        asked = labels[:, 1:] != -100
        return SimpleNamespace(
            log_probs=torch.where(asked, shifted, 0),
            entropy=torch.zeros_like(shifted),
            mean_logits=torch.zeros_like(shifted),
            is_top1=asked,
        )


def trainer(model: nn.Module, **options: Any) -> SimpleNamespace:
    """A trainer of one process, with these attributes besides."""
    model.train()
    same = lambda x: x  # noqa: E731
    return SimpleNamespace(
        model=model,
        accelerator=SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **options,
    )


def random_rows(num_rows: int, width: int = 9) -> tuple[TokenBatch, Tensor]:
    """Rows of unlike lengths with prompts of unlike lengths, and log-probs of their tokens, `[R, T]`."""
    prompts_R1 = torch.randint(1, 4, (num_rows, 1))
    ends_R1 = prompts_R1 + torch.randint(1, width - 2, (num_rows, 1))
    places = torch.arange(width)
    attention_mask = places < ends_R1.clamp(max=width)
    rows = TokenBatch(
        tokens=torch.randint(0, 50, (num_rows, width)),
        attention_mask=attention_mask,
        response_mask=attention_mask & (places >= prompts_R1),
    )
    return rows, -torch.rand(num_rows, width) * 3


def inputs(rows: TokenBatch) -> dict[str, Tensor]:
    """The rows under TRL's names."""
    return {
        "input_ids": rows.tokens,
        "attention_mask": rows.attention_mask.long(),
        "completion_mask": rows.response_mask.long(),
    }
