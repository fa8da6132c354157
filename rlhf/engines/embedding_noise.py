"""NEFTune: uniform noise on the embeddings of what is trained on (Jain et al. 2023, arXiv:2310.05914, algorithm 1).

A row of L tokens and embeddings of d numbers get noise from `alpha / sqrt(L d) * U(-1, 1)`, so that its length is about
`alpha / sqrt(3)` whatever L and d are. L counts real tokens, as in the paper: with padding counted, as in the hook of
transformers, the noise of a row would depend on the rows it stands beside.

The noise of a row is drawn from (seed, optimizer step, the row's tokens), so it is the same however a batch is cut into
micro-batches and dealt to processes, and when a run is taken up again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.engines.layout import Packing, layout
from rlhf.types import TokenBatch


@contextmanager
def noised_embeddings(
    embeddings: nn.Module, batch: TokenBatch, *, alpha: float, packing: Packing, seed: int, step: int
) -> Iterator[None]:
    """While entered, `embeddings` adds noise to the rows of `batch`, padded or packed; 0: nothing is added.

    Noise is a row's own, so rows that are packed must not share their prompts.
    """
    if not alpha:
        yield
        return
    origins = layout(batch, packing, share=False).origins

    def add_noise(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        noise = row_noise(batch, embedded, alpha, seed, step)
        return embedded + noise.flatten(0, 1)[origins].view_as(embedded)

    handle = embeddings.register_forward_hook(add_noise)
    try:
        yield
    finally:
        handle.remove()


def row_noise(batch: TokenBatch, like: Tensor, alpha: float, seed: int, step: int) -> Tensor:
    """`[B, T, d]` of `like`'s kind and last dimension, zero on padding."""
    width = like.shape[-1]
    noise = like.new_zeros(*batch.tokens.shape, width)
    for row, length in enumerate(batch.lengths_B.tolist()):
        if length:
            generator = torch.Generator(like.device).manual_seed(_seed(batch.tokens[row, :length], seed, step))
            uniform = torch.rand(length, width, generator=generator, device=like.device)
            noise[row, :length] = ((2 * uniform - 1) * alpha * (length * width) ** -0.5).to(like.dtype)
    return noise


def _seed(tokens: Tensor, seed: int, step: int) -> int:
    text = f"{seed}/{step}/{tokens.tolist()}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
