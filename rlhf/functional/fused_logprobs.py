"""Log-probs and entropies of a linear output head with a gradient worked out by hand.

With z = f(W h + b)/c, p = softmax(z), and the entropy H = -sum p log p:

    d log p(a) / dz_v = [v = a] - p_v            dH / dz_v = -p_v (log p_v + H)

So the backward pass needs the logits once, and one chunk of them is all that exists at a time: recomputed where there
are several chunks, kept where there is one. Left to autograd, each chunk would hold four to five arrays of its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


@dataclass(frozen=True)
class HeadShape:
    """What is done to the product of hidden states and weights: `softcap * tanh(scale * x / softcap) / temperature`."""

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    def apply_(self, products: Tensor) -> Tensor:
        """In place, in float32 at least."""
        logits = products.to(torch.promote_types(products.dtype, torch.float32))
        if self.scale != 1:
            logits.mul_(self.scale)
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits if self.temperature == 1 else logits.div_(self.temperature)

    def back_(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient of the products, in place, from that of the logits."""
        if self.softcap is not None:
            capped = logits * (self.temperature / self.softcap)
            gradient.mul_(capped.square_().neg_().add_(1))
        factor = self.scale / self.temperature
        return gradient if factor == 1 else gradient.mul_(factor)


@dataclass(frozen=True)
class Wanted:
    """Whether entropies are computed, and whether they have a gradient; how many tokens' logits exist at a time."""

    entropy: bool
    entropy_grad: bool
    chunk: int


class FusedLogprobs(torch.autograd.Function):
    """`(log p(target), entropy)`, both `[N]`, of `shape(hidden @ weight.T + bias)`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        shape: HeadShape,
        wanted: Wanted,
    ) -> tuple[Tensor, Tensor]:
        kind = hidden_NH.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NH.dtype
        ctx.shape, ctx.wanted, ctx.logits = shape, wanted, None
        starts = range(0, max(len(hidden_NH), 1), wanted.chunk)
        told = []
        for start in starts:
            rows = slice(start, start + wanted.chunk)
            logits = _logits(hidden_NH[rows], weight_VH, bias_V, shape, ctx.dtype)
            normaliser = logits.logsumexp(-1)
            logprobs = logits.gather(-1, targets_N[rows, None]).squeeze(-1) - normaliser
            keeps = any(ctx.needs_input_grad) and len(starts) == 1
            entropies = torch.zeros_like(logprobs)
            if wanted.entropy:
                entropies = _entropy_(logits.clone() if keeps else logits, normaliser)
            if keeps:
                ctx.logits = logits
            told.append((logprobs, normaliser, entropies))
        logprobs, normaliser, entropies = (torch.cat(parts) for parts in zip(*told, strict=True))
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, targets_N, normaliser, entropies)
        if not wanted.entropy_grad:
            ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser, entropies = ctx.saved_tensors
        shape, wanted = ctx.shape, ctx.wanted
        by_logprob, by_entropy = grads[0], grads[1] if wanted.entropy_grad else None
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_hidden = []
        of_weight = torch.zeros_like(weight) if needs_weight else None
        of_bias = torch.zeros_like(bias) if bias is not None and needs_bias else None
        for start in range(0, max(len(hidden), 1), wanted.chunk):
            rows = slice(start, start + wanted.chunk)
            logits, ctx.logits = ctx.logits, None
            if logits is None:
                logits = _logits(hidden[rows], weight, bias, shape, ctx.dtype)
            of_entropy = None if by_entropy is None else (by_entropy[rows], entropies[rows])
            gradient = _gradient_(logits, targets[rows], normaliser[rows], by_logprob[rows], of_entropy, shape)
            if of_bias is not None:
                of_bias += gradient.sum(0)
            gradient = gradient.to(ctx.dtype)
            if needs_hidden:
                of_hidden.append((gradient @ weight.to(ctx.dtype)).to(hidden.dtype))
            if of_weight is not None:
                of_weight += gradient.T @ hidden[rows].to(ctx.dtype)
        return torch.cat(of_hidden) if needs_hidden else None, of_weight, of_bias, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, shape: HeadShape, dtype: torch.dtype) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        given = linear(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
        return shape.apply_(given)


def _entropy_(logits: Tensor, normaliser: Tensor) -> Tensor:
    """`[N]`; the logits are used up. An impossible token, whose logit is -inf, counts nothing."""
    probabilities = (logits - normaliser.unsqueeze(-1)).exp_()
    return normaliser - logits.clamp_(min=torch.finfo(logits.dtype).min).mul_(probabilities).sum(-1)


def _gradient_(
    logits: Tensor,
    targets: Tensor,
    normaliser: Tensor,
    by_logprob: Tensor,
    by_entropy: tuple[Tensor, Tensor] | None,
    shape: HeadShape,
) -> Tensor:
    """Of the products before scale, soft-cap and temperature; the logits are used up."""
    capped = logits.clone() if shape.softcap is not None else logits
    log_probabilities = logits.sub_(normaliser.unsqueeze(-1))
    if by_entropy is None:
        gradient = log_probabilities.exp_().mul_(-by_logprob.unsqueeze(-1))
    else:
        upstream, entropies = by_entropy
        gradient = log_probabilities.exp()
        bent = log_probabilities.clamp_(min=torch.finfo(logits.dtype).min).add_(entropies.unsqueeze(-1))
        gradient.mul_(bent.mul_(-upstream.unsqueeze(-1)).sub_(by_logprob.unsqueeze(-1)))
    gradient.scatter_add_(-1, targets.unsqueeze(-1), by_logprob.unsqueeze(-1))
    return shape.back_(gradient, capped)
