"""Tensors: what train engines and losses give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Metrics = dict[str, float]
"""Figures of one step under `area/name` (`reward/mean`, `policy/approx_kl`); docs/metrics.md explains each."""


@dataclass(frozen=True, kw_only=True)
class PolicyOutput:
    """`logprobs` of the tokens and `entropy` of their distributions: `[B, T]` float32, at the role's temperature."""

    logprobs: Tensor
    entropy: Tensor


@dataclass(frozen=True, kw_only=True)
class DistilledOutput(PolicyOutput):
    """Of a policy with a teacher: also `divergence`, how far the distributions of each token are, `[B, T]`, nats."""

    divergence: Tensor


@dataclass(frozen=True, kw_only=True)
class ValueOutput:
    """`values[:, t]` of the state in which token t is chosen; `final_values_B` of the state after the last token.

    The latter is what a truncated rollout is bootstrapped with.
    """

    values: Tensor
    final_values_B: Tensor


@dataclass(frozen=True, kw_only=True)
class RewardOutput:
    """One scalar score a row, read at its last real token, float32."""

    scores_B: Tensor


@dataclass(frozen=True, kw_only=True)
class HeadedRewardOutput(RewardOutput):
    """Of a reward model with several heads: each head's score, and their sum as `scores_B`."""

    heads_BH: Tensor


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """`scores[:, t]` of the step that ends at token t, float32 `[B, T]`; zero where none ends."""

    scores: Tensor


@dataclass(frozen=True, kw_only=True)
class LossSum:
    """What a loss returns: a *sum*, which the engine divides once by the global count.

    `sums` are diagnostics as (sum, count) pairs, added up over micro-batches and ranks before the division, so that
    a metric does not depend on how a batch was cut.
    """

    total: Tensor  # scalar, with gradient
    sums: Mapping[str, tuple[Tensor, Tensor]]
    peaks: Mapping[str, Tensor] = field(default_factory=dict)
    """Diagnostics of which the largest of all pieces counts."""
