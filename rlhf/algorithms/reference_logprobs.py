"""Log-probs of whole completions under the reference, worked out for each batch or once for each row."""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf.functional.masked import masked_sum
from rlhf.protocols import Run
from rlhf.types import TokenBatch


class ReferenceLogprobs:
    """`log pi_ref(completion)` of rows. With `remember`, a row met again is looked up: the reference never changes.

    What is remembered is 100 bytes or so a row, in every process, and is not part of a checkpoint.
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


def _summed(run: Run, rows: TokenBatch) -> Tensor:
    return masked_sum(run.reference.forward(rows).logprobs, rows.response_mask, dim=1)
