"""What the models say of a step's samples before anything is learnt from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf.functional.engine_gap import EngineGap, engine_gap
from rlhf.functional.kl import k1
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


def compared(batch: ScoredBatch, policy: Tensor | None, reference: Tensor | None = None) -> Compared:
    """The models' log-probs on the response, the KL between them, and how far the rollout engine is from the policy.

    Of the policy they are always the train engine's: a rollout engine's differ in the last bit with the prompts that it
    was dealt.
    """
    mask = batch.response_mask
    old, ref = (None if said is None else torch.where(mask, said, 0) for said in (policy, reference))
    gap = None if old is None else engine_gap(old, batch.sampled_logprobs, mask)
    kl = torch.zeros(mask.shape) if old is None or ref is None else k1(old, ref, mask)
    return Compared(old, ref, kl, gap)
