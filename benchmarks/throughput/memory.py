"""Contenders that only move or hold memory: a plain copy, and log-probs at a large vocabulary.

`task` is `{kind, threads}`: `copy` copies as many bytes as the weights of the hand-over's model; `chunked` and `whole`
take log-probs of 8 x 512 tokens over 150,000 words, forward and backward, by our function and through whole logits, and
report how far that raised the process's peak memory. Gradients exist before, so that only what is in between counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.throughput.turns import Turns, peak_bytes
from benchmarks.throughput.workload import HUNDRED_MILLION, SMALL
from rlhf.functional.logprobs import token_logprobs

TOKENS, VOCABULARY = 8 * 512, 150_000


def copying() -> Callable[[], dict[str, float]]:
    """One memory copy of the weights' bytes a step."""
    source = torch.ones(HUNDRED_MILLION.parameters)
    target = torch.empty_like(source)

    def step() -> dict[str, float]:
        target.copy_(source)
        return {}

    return step


def logprobs(whole: bool) -> Callable[[], dict[str, float]]:
    """Forward and backward of all log-probs a step."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, SMALL.hidden, generator=generator).requires_grad_()
    weight = (torch.randn(VOCABULARY, SMALL.hidden, generator=generator) * 0.02).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    for leaf in (hidden, weight):
        leaf.grad = torch.ones_like(leaf)

    def step() -> dict[str, float]:
        before = _forget_peak()
        if whole:
            logits = hidden @ weight.T
            values = torch.log_softmax(logits, dim=-1).gather(1, targets.unsqueeze(1)).squeeze(1)
        else:
            values, _ = token_logprobs(hidden, weight, targets, entropy_grad=False)
        torch.autograd.backward(values.sum())
        return {"memory/extra": float(peak_bytes(os.getpid()) - before)}

    return step


def _forget_peak() -> int:
    """Let the kernel count the peak from here on; the memory in use now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak_bytes(os.getpid())


KINDS: dict[str, Callable[[], Callable[[], dict[str, float]]]] = {
    "copy": copying,
    "chunked": lambda: logprobs(False),
    "whole": lambda: logprobs(True),
}


def main(task: str) -> None:
    """One step a turn."""
    given: dict[str, Any] = json.loads(task)
    torch.set_num_threads(given["threads"])
    turns = Turns.from_environment()
    step = KINDS[given["kind"]]()
    going = turns.ready()
    while going:
        going = turns.done(metrics=step())


if __name__ == "__main__":
    main(sys.argv[1])
