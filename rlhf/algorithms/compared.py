"""What the models say of a step's samples before anything is learnt from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf.functional.engine_gap import EngineGap, engine_gap
from rlhf.functional.kl import k1
from rlhf.protocols import Run
from rlhf.types import ScoredBatch


@dataclass(frozen=True)
class Compared:
    """Samples under the policy that drew them and under the reference, `[B, T]`, zero outside the mask."""

    old_logprobs: Tensor | None
    """None where the update finds them itself."""
    ref_logprobs: Tensor | None
    """None where the method pays no KL, and so needs no reference."""
    kl: Tensor
    """k1; zero without a reference, and where old log-probs are left to the update."""
    gap: EngineGap | None
    """How far the rollout engine's log-probs are from the policy's; None where the update tells it."""


class Old(NamedTuple):
    """What the policy says of its samples before any update, `[B, T]`, and how far the rollout engine is from it."""

    logprobs: Tensor
    gap: EngineGap


def old_logprobs(run: Run, batch: ScoredBatch) -> Old:
    """Log-probs of the policy that sampled, by the train engine: those of a rollout engine differ in the last bit with
    the prompts that it was dealt.
    """
    logprobs = run.policy.forward(batch).logprobs
    return Old(logprobs, engine_gap(logprobs, batch.sampled_logprobs, batch.response_mask))


def compared(batch: ScoredBatch, policy: Old | None, reference: Tensor | None = None) -> Compared:
    """The models' log-probs on the response, and the KL between them."""
    mask, gap = batch.response_mask, policy.gap if policy is not None else None
    said = (policy.logprobs if policy is not None else None, reference)
    old, ref = (None if given is None else torch.where(mask, given, 0) for given in said)
    if old is None or ref is None:
        return Compared(old, ref, torch.zeros(mask.shape), gap)
    return Compared(old, ref, k1(old, ref, mask), gap)
