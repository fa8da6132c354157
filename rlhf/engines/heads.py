"""What stands on top of a network: log-probs of tokens for a policy, one number a token for value and reward."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from rlhf.errors import ConfigError
from rlhf.functional.distillation import Divergence, head_divergence
from rlhf.functional.logprobs import default_chunk, output_head, token_logprobs


class LogprobHead(nn.Module):
    """Log-probs and entropies through a network's own output head, in chunks of tokens, float32.

    The head's weight is registered here too (the same parameter), so that whatever gathers a module's parameters
    before it runs (ZeRO-3) does so for this module.
    """

    def __init__(self, output: nn.Module, config: Any, temperature: float) -> None:
        super().__init__()
        self.weight = output.weight
        self.bias = getattr(output, "bias", None)
        self.scale = _logit_scale(config)
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.temperature = temperature

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """`[N, V]`, whole, before the temperature."""
        return output_head(cast(Tensor, self.weight), self.bias, self.scale, self.softcap)(hidden_NH)

    def forward(self, hidden_NH: Tensor, targets_N: Tensor, entropy_grad: bool) -> tuple[Tensor, Tensor]:
        """`log p(target)` and the entropy of the distribution, both `[N]`, of `logits / temperature`."""
        return token_logprobs(
            hidden_NH,
            cast(Tensor, self.weight),
            targets_N,
            bias=self.bias,
            logit_scale=self.scale,
            logit_softcap=self.softcap,
            temperature=self.temperature,
            entropy_grad=entropy_grad,
        )


class DivergenceHead(nn.Module):
    """How far a policy's distributions are from a teacher's, through both output heads, in chunks of tokens, float32.

    Where one vocabulary was padded further than the other, only tokens both have are compared. Weights are registered
    here too, for the same reason as above.
    """

    def __init__(self, student: LogprobHead, teacher: LogprobHead) -> None:
        super().__init__()
        self.weight, self.bias = student.weight, student.bias
        self.teacher_weight, self.teacher_bias = teacher.weight, teacher.bias
        self.shapes = [(head.scale, head.softcap) for head in (student, teacher)]

    def forward(self, student_NH: Tensor, teacher_NK: Tensor, kind: Divergence) -> Tensor:
        """`[N]`, of the distributions these hidden states stand for."""
        weights = [cast(Tensor, weight) for weight in (self.weight, self.teacher_weight)]
        shared = min(map(len, weights))
        student, teacher = (
            output_head(weight[:shared], None if bias is None else cast(Tensor, bias)[:shared], *shape)
            for weight, bias, shape in zip(weights, (self.bias, self.teacher_bias), self.shapes, strict=True)
        )
        return head_divergence(student_NH, student, teacher_NK, teacher, kind, chunk=default_chunk(shared))


def _logit_scale(config: Any) -> float:
    """What a family multiplies its logits by (Cohere, Falcon-H1) or divides them by (Granite)."""
    for name in ("logit_scale", "lm_head_multiplier"):
        if (value := getattr(config, name, None)) is not None:
            return float(value)
    return 1.0 / float(getattr(config, "logits_scaling", None) or 1.0)


def scalar_head(network: nn.Module) -> nn.Linear:
    """The linear layer of a sequence classifier that turns a hidden state into its score, or scores."""
    for name in ("score", "classifier"):
        head = getattr(network, name, None)
        if isinstance(head, nn.Linear):
            return head
    raise ConfigError(
        f"{type(network).__name__} has no linear `score` head; a reward or value model needs a decoder whose "
        "ForSequenceClassification class in transformers has one"
    )


def init_scalar_head(head: nn.Linear, role: str, seed: int) -> None:
    """A fresh head: reward `N(0, 1/(h+1))` (Stiennon et al. 2020, appendix B.1), value zero.

    A value head of zeros predicts 0 everywhere at the start, so early advantages are the rewards and not its noise.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(head.weight.shape, generator=generator) * (head.in_features + 1) ** -0.5
    with torch.no_grad():
        head.weight.copy_(weight if role == "reward" else torch.zeros_like(weight))
        if head.bias is not None:
            head.bias.zero_()
