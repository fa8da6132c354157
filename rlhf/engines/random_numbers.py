"""Random numbers of an optimizer step: a function of the seed, the step and the process, so that none need be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_for_step(device: torch.device, seed: int, step: int, rank: int) -> Iterator[None]:
    """What torch draws inside, as the dropout of adapters or a guest's loss, depends on these alone: neither on what
    else this process has drawn nor on where a run was interrupted. What it draws outside is what it would have been.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield
