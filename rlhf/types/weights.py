"""What proves that weights have arrived."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What one weight looks like, told by few of its elements; the same on both sides of a hand-over."""

    shape: tuple[int, ...]
    dtype: str
    """As torch writes it: `torch.bfloat16`."""
    values: tuple[float, ...]
    """Elements at places spread evenly over the weight, the first and the last among them."""
    merged: bool = False
    """An adapter was added to these elements one by one; a product of whole matrices may round otherwise."""
