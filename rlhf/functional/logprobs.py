"""Log-probabilities of given tokens and entropy of their distributions, without holding logits of a whole batch.

For logits z and temperature c:  log p(a) = z_a/c - logsumexp(z/c),   H = logsumexp(z/c) - sum_v p_v z_v/c.

The temperature is the one the tokens were sampled at: a trainer that forgets it compares two different policies.
Everything after the matrix product is in float32 (float64 stays float64).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from rlhf.functional.fused_logprobs import FusedLogprobs, HeadShape, Wanted

LOGITS_AT_ONCE = 2**24
"""Entries of the logits held at a time where the caller names no chunk: 64 MiB of float32."""


def token_logprobs(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    targets_N: Tensor,
    *,
    bias: Tensor | None = None,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    temperature: float = 1.0,
    chunk: int | None = None,
    with_entropy: bool = True,
    entropy_grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """`(logprobs_N, entropy_N)` of `targets_N` under the output head `scale * (hidden @ weight.T + bias)`.

    Row n of `hidden_NH` must be the state that *predicts* `targets_N[n]` (`hidden[:, :-1]` against `tokens[:, 1:]`).
    `logit_softcap` c replaces z by `c tanh(z/c)` (Gemma 2, arXiv:2408.00118). See `head_logprobs` for the rest; here
    the gradient is worked out by hand (`fused_logprobs`), and has none of its own.
    """
    _check_temperature(temperature)
    if len(targets_N) != len(hidden_NH):
        raise ValueError(f"{len(hidden_NH)} hidden states were given with {len(targets_N)} targets")
    shape = HeadShape(logit_scale, logit_softcap, temperature)
    wanted = Wanted(with_entropy, with_entropy and entropy_grad, chunk or default_chunk(len(weight_VH)))
    both: tuple[Tensor, Tensor] = FusedLogprobs.apply(hidden_NH, weight_VH, bias, targets_N, shape, wanted)  # type: ignore[no-untyped-call]
    return both


def output_head(
    weight_VH: Tensor, bias: Tensor | None = None, logit_scale: float = 1.0, logit_softcap: float | None = None
) -> Callable[[Tensor], Tensor]:
    """Logits `[N, V]` as a function of hidden states `[N, H]`: `scale * (hidden @ weight.T + bias)`, soft-capped."""

    def head(hidden_NH: Tensor) -> Tensor:
        logits = linear(hidden_NH, weight_VH, bias) * logit_scale
        return logits if logit_softcap is None else torch.tanh(logits / logit_softcap) * logit_softcap

    return head


def head_logprobs(
    hidden_NH: Tensor,
    head: Callable[[Tensor], Tensor],
    targets_N: Tensor,
    *,
    chunk: int,
    temperature: float = 1.0,
    with_entropy: bool = True,
    entropy_grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """`(logprobs_N, entropy_N)` where `head` is any map from hidden states to logits, such as a model's own module.

    At most `chunk` tokens' logits exist at a time: with gradients on and more than one chunk, each is recomputed in
    the backward pass (Chen et al. 2016, arXiv:1604.06174). `head` must be deterministic. `entropy_N` carries a
    gradient only with `entropy_grad` (an entropy bonus needs it), and is zero with `with_entropy=False`.
    """

    def of_chunk(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        scaled = _scaled(head(hidden), temperature)
        normaliser = scaled.logsumexp(-1)
        logprobs = _at(scaled, targets) - normaliser
        if not with_entropy:
            return logprobs, torch.zeros_like(logprobs)
        if entropy_grad:
            return logprobs, _entropy(scaled, normaliser)
        return logprobs, _entropy(scaled.detach(), normaliser.detach())

    def recomputed(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = checkpoint(
            of_chunk, hidden, targets, use_reentrant=False, preserve_rng_state=False
        )
        return both

    run = recomputed if torch.is_grad_enabled() and len(hidden_NH) > chunk else of_chunk
    pieces = zip(torch.split(hidden_NH, chunk), torch.split(targets_N, chunk), strict=True)
    parts = [run(hidden, targets) for hidden, targets in pieces]
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])


def gather_logprobs(logits_NV: Tensor, targets_N: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probs of `targets_N` from logits already at hand; any leading shape, e.g. `[B, T, V]` and `[B, T]`.

    Nothing is shifted: `logits_NV[n]` must be the prediction of `targets_N[n]`.
    """
    scaled = _scaled(logits_NV, temperature)
    return _at(scaled, targets_N) - scaled.logsumexp(-1)


def entropy(logits_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of each distribution, `[N]`; any leading shape. Tokens ruled out by logits of -inf count 0."""
    scaled = _scaled(logits_NV, temperature)
    return _entropy(scaled, scaled.logsumexp(-1))


def _at(scaled_NV: Tensor, targets_N: Tensor) -> Tensor:
    return scaled_NV.gather(-1, targets_N.unsqueeze(-1)).squeeze(-1)


def _entropy(scaled_NV: Tensor, normaliser_N: Tensor) -> Tensor:
    probabilities = (scaled_NV - normaliser_N.unsqueeze(-1)).exp()
    # 0 * -inf is nan: an impossible token must leave the sum by where.
    return normaliser_N - (probabilities * torch.where(probabilities > 0, scaled_NV, 0)).sum(-1)


def _scaled(logits_NV: Tensor, temperature: float) -> Tensor:
    _check_temperature(temperature)
    logits = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return logits if temperature == 1 else logits / temperature


def _check_temperature(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, but is {temperature}: a greedy choice has no log-probability.")


def default_chunk(vocabulary: int) -> int:
    """Tokens whose logits are held at a time where the caller names no number."""
    return max(1, LOGITS_AT_ONCE // vocabulary)
