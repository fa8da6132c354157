"""Counts the bytes that tensors hold while something runs, also where they are fake and hold none."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LARGE_BLOCK = 1 << 25
"""Bytes from which glibc takes a block from the kernel and gives it back at once (its largest M_MMAP_THRESHOLD)."""


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage made under it until it is let go.

    What stood before (weights, gradients) is not counted: name it in `apart`.
    """

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self.small_peak = 0
        """At most in blocks that a C library keeps for later when they are let go."""
        self._small = 0
        self._sizes: dict[int, int] = {}
        self._apart = {tensor.untyped_storage()._cdata for tensor in apart}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return out

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak, self.small_peak = self.now, self._small

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes or key in self._apart:
            return
        size = storage.nbytes()
        self._sizes[key] = size
        self.now += size
        self._small += size if size < LARGE_BLOCK else 0
        self.peak = max(self.peak, self.now)
        self.small_peak = max(self.small_peak, self._small)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        size = self._sizes.pop(key, 0)
        self.now -= size
        self._small -= size if size < LARGE_BLOCK else 0
