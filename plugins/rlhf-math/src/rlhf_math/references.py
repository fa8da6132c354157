"""The answer the data holds: a text or a number of one column."""

from __future__ import annotations

import math
from decimal import Decimal

from rlhf.types import Rollout
from rlhf_math.answers import last_boxed


class BadReferenceError(ValueError):
    """The data's own answer cannot be read: an error of that row, and no fault of the completion."""


def reference_of(rollout: Rollout, column: str) -> str | None:
    """The reference in `column` as a text, or None where the row has none.

    Raises:
        BadReferenceError: it is neither text nor a finite number.
    """
    value = rollout.prompt.reference if column == "reference" else rollout.prompt.metadata.get(column)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return format(Decimal(repr(value)), "f")  # 1e-07 would be read as 1 * e - 07
    raise BadReferenceError(f"column {column!r} must hold a text or a number, given {value!r:.80}")


def final_answer(reference: str) -> str:
    r"""The answer itself, of a solution that ends in one: its last `\boxed{...}`, or what follows its last "####".

    Raises:
        BadReferenceError: it is empty, or its box is never closed.
    """
    answer = last_boxed(reference) if "\\boxed" in reference else reference.rpartition("####")[2].strip()
    if not answer:
        raise BadReferenceError(f"the reference holds no answer, given {reference!r:.80}")
    return answer
