"""A price on answers that come near the longest allowed length."""

from __future__ import annotations

from torch import Tensor


def overlong_penalty(lengths_B: Tensor, max_length: int, buffer: int) -> Tensor:
    """0 up to `max_length - buffer` tokens, then 1/buffer less a token, -1 from `max_length` on; `[B]` float32.

    DAPO (Yu et al. 2025, arXiv:2503.14476), equation 13: an answer learns to end before it is cut.
    """
    excess_B = lengths_B - (max_length - buffer)
    return -(excess_B.float() / buffer).clamp(0, 1)
