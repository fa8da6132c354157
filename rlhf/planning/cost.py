"""Floating-point operations, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf.planning.network import Network
from rlhf.planning.replica import Work

TRAINING = 0.4
"""Of a device's peak, what training on full micro-batches usually reaches."""
GENERATING = 0.1
"""The same for writing token after token, which waits for memory."""


@dataclass(frozen=True)
class Flops:
    """Of one token in rows of a certain length."""

    forward: float
    head: float
    """Added where a log-prob is wanted."""


def flops_per_token(network: Network, width: float) -> Flops:
    """2 for every weight that multiplies, and the attention to half of a row on average."""
    attention = 2 * network.cache_entries / 2 * width
    return Flops(forward=2 * network.active + attention, head=2.0 * network.head_size)


def scoring_flops(work: Work, tokens: float) -> float:
    """Of a forward pass over so many tokens."""
    flops = flops_per_token(work.network, work.width)
    return tokens * (flops.forward + flops.head * work.asked / work.tokens)


def training_flops(work: Work, tokens: float) -> float:
    """Twice as much again for the backward pass, once where weights are frozen; layers twice where checkpointed."""
    flops = flops_per_token(work.network, work.width)
    asked = work.asked / work.tokens
    passes = (3 if work.lora is None else 2) + (1 if work.checkpointing else 0)
    return tokens * (passes * flops.forward + (4 if work.lora is None else 3) * flops.head * asked)


@dataclass(frozen=True)
class Pace:
    """Seconds of what a process does, measured or reckoned."""

    train: float
    """A micro-batch of `Work`, both passes."""
    score: float
    """The same, forward only."""
    step: float
    """An optimizer step."""
    generate: float
    """One more token for each of a batch of sequences."""
    how: str


def reckoned(work: Work, sequences: int, peak: float) -> Pace:
    """From a device's peak, in floating-point operations a second, at usual shares of it."""
    forward = flops_per_token(work.network, work.width)
    return Pace(
        train=training_flops(work, work.tokens) / (peak * TRAINING),
        score=scoring_flops(work, work.tokens) / (peak * TRAINING),
        step=0.0,
        generate=sequences * (forward.forward + forward.head) / (peak * GENERATING),
        how=f"at {TRAINING:.0%} of {peak / 1e12:,.3g} TFLOP/s in training and scoring, {GENERATING:.0%} in generation",
    )
