"""Divergences between a student and a teacher over the whole vocabulary, in chunks of tokens.

With p the teacher's distribution, q the student's, and m = beta p + (1 - beta) q (Agarwal et al. 2023, GKD,
arXiv:2306.13649, section 2.2):

    beta = 0        KL(p || q)        forward: the student must cover all the teacher would say
    beta = 1        KL(q || p)        reverse: the student must not say what the teacher would not
    0 < beta < 1    beta KL(p || m) + (1 - beta) KL(q || m)     generalised Jensen-Shannon, bounded

The last one goes to 0 as beta goes to 0 or 1, as beta KL(p || q) and (1 - beta) KL(q || p).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Divergence:
    """Which divergence, and the temperature both distributions are softened by before it is taken."""

    beta: float = 0.0
    temperature: float = 1.0


FORWARD_KL = Divergence()
"""KL(teacher || student) at temperature 1: what any student is measured by, whatever it was trained on."""


def divergence(student_NV: Tensor, teacher_NV: Tensor, kind: Divergence) -> Tensor:
    """The divergence of two distributions in nats, `[N]`, from their logits over one vocabulary; float32 at least.

    No gradient reaches the teacher's logits. Tokens that both rule out (logits of -inf) count 0.
    """
    student, teacher = _log_softmax(student_NV, kind.temperature), _log_softmax(teacher_NV.detach(), kind.temperature)
    if kind.beta == 0:
        return _kl(teacher, student)
    if kind.beta == 1:
        return _kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(kind.beta), student + math.log1p(-kind.beta))
    return kind.beta * _kl(teacher, mixture) + (1 - kind.beta) * _kl(student, mixture)


def head_divergence(
    student_NH: Tensor,
    student_head: Callable[[Tensor], Tensor],
    teacher_NK: Tensor,
    teacher_head: Callable[[Tensor], Tensor],
    kind: Divergence,
    *,
    chunk: int,
) -> Tensor:
    """`divergence` from hidden states and the maps that turn them into logits; hidden sizes may differ, `[N]`.

    At most `chunk` tokens' logits of each exist at a time: with gradients on and more than one chunk, they are
    recomputed in the backward pass. The heads must be deterministic.
    """

    def of_chunk(student: Tensor, teacher: Tensor) -> Tensor:
        return divergence(student_head(student), teacher_head(teacher), kind)

    def recomputed(student: Tensor, teacher: Tensor) -> Tensor:
        value: Tensor = checkpoint(of_chunk, student, teacher, use_reentrant=False, preserve_rng_state=False)
        return value

    run = recomputed if torch.is_grad_enabled() and len(student_NH) > chunk else of_chunk
    pieces = zip(torch.split(student_NH, chunk), torch.split(teacher_NK, chunk), strict=True)
    return torch.cat([run(student, teacher) for student, teacher in pieces])


def _log_softmax(logits_NV: Tensor, temperature: float) -> Tensor:
    logits = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return (logits / temperature).log_softmax(-1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q), `[N]`, from log-probs; an outcome that p rules out adds 0, whatever q says."""
    possible = p > -math.inf
    return (p.exp() * torch.where(possible, p - torch.where(possible, q, 0), 0)).sum(-1)
