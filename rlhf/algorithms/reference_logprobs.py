"""Log-probs of whole completions under the reference, worked out for each batch or once for each row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rlhf.functional.masked import masked_sum
from rlhf.protocols import Run
from rlhf.types import TokenBatch


class ReferenceLogprobs:
    """`log pi_ref(completion)` of rows. With `remember`, a row met again is looked up: the reference never changes.

    What is remembered is 100 bytes or so a row, in every process and in a checkpoint: asked again in the company of
    other rows, the reference would round otherwise.
    """

    def __init__(self, *, remember: bool) -> None:
        self._known: dict[bytes, float] | None = {} if remember else None

    def of(self, run: Run, rows: TokenBatch) -> Tensor:
        """Summed over the response mask, `[B]` float32; the reference is asked only for rows it has not been."""
        if self._known is None:
            return _summed(run, rows)
        keys = rows.row_keys()
        new = [row for row, key in enumerate(keys) if key not in self._known]
        if new:
            answers = _summed(run, rows[torch.tensor(new)].trim()).tolist()
            self._known |= {keys[row]: answer for row, answer in zip(new, answers, strict=True)}
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float32)

    def state(self) -> dict[str, float]:
        """What is remembered, by the digest of a row."""
        return {key.hex(): logprob for key, logprob in (self._known or {}).items()}

    def restore(self, state: Mapping[str, float]) -> None:
        if self._known is not None:
            self._known = {bytes.fromhex(key): logprob for key, logprob in state.items()}


def _summed(run: Run, rows: TokenBatch) -> Tensor:
    return masked_sum(run.reference.forward(rows).logprobs, rows.response_mask, dim=1)
