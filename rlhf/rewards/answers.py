"""What a reward may answer, made into one `Score` a rollout. Anything else is a `RewardError` that says what came."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from rlhf.errors import RewardError
from rlhf.types import Score

TOTALS = ("rewards", "reward", "scores", "score")
"""Keys of a dictionary under which the reward itself is looked for, in this order; the others are parts."""

_MOST = 3.4e38  # float32 ends here
_NO_LISTS = (str, bytes, Mapping, AbstractSet)
"""What can be iterated over and has no order, or letters for items."""


def batch_scores(answer: object, count: int) -> list[Score]:
    """Of `count` rollouts, from a list, a tuple, an array, a tensor or a dictionary of them."""
    if isinstance(answer, Mapping):
        return _from_columns(answer, count)
    return [row_score(item) for item in _listed(answer, count)]


def row_score(answer: Any) -> Score:
    """Of one rollout: a number, None where the reward does not apply, a `Score`, or a dictionary with its parts."""
    if answer is None or isinstance(answer, Score):
        return answer or Score()
    if isinstance(answer, Mapping):
        numbers = {str(name): value for name, value in answer.items() if _is_number(value) or name in TOTALS}
        return _with_parts({name: _number(value) for name, value in numbers.items()}, answer)
    return Score(value=_number(answer))


def faulty(score: Score, bounds: tuple[float, float] | None) -> Score:
    """The score, or an error in its place where it is not finite or not within the declared range."""
    if score.error is not None or score.value is None:
        return score
    if not math.isfinite(score.value):
        return Score(error=f"gave {score.value}")
    if abs(score.value) > _MOST:
        return Score(error=f"gave {score.value:g}, which is infinite in the 32 bits that batches are made of")
    if bounds is not None and not bounds[0] <= score.value <= bounds[1]:
        return Score(error=f"gave {score.value:g}, out of its range of {bounds[0]:g} to {bounds[1]:g}")
    return score


def _from_columns(answer: Mapping[Any, Any], count: int) -> list[Score]:
    """A dictionary of lists, with those of `extra_logs` (OpenRLHF) among the parts."""
    columns = {str(name): value for name, value in answer.items() if name != "extra_logs"}
    columns |= dict(answer.get("extra_logs") or {})
    lists = {name: _listed(value, count, f" under {name!r}") for name, value in columns.items()}
    rows = [{name: values[row] for name, values in lists.items()} for row in range(count)]
    return [row_score(row) for row in rows]


def _with_parts(numbers: Mapping[str, float | None], answer: Mapping[Any, Any]) -> Score:
    total = next((name for name in TOTALS if name in numbers), None)
    if not numbers:
        raise RewardError(f"gave a dictionary without a number in it: {_excerpt(dict(answer))}")
    parts = {name: value for name, value in numbers.items() if name != total and value is not None}
    return Score(value=sum(parts.values()) if total is None else numbers[total], parts=parts)


def _listed(answer: object, count: int, where: str = "") -> list[Any]:
    if not isinstance(answer, Iterable) or isinstance(answer, _NO_LISTS) or _is_scalar(answer):
        raise RewardError(f"must return a list{where}, given {type(answer).__name__}")
    items = answer.tolist() if hasattr(answer, "tolist") else list(answer)
    if len(items) != count:
        raise RewardError(f"returned {len(items)} numbers{where} for {count} completions")
    return items


def _is_scalar(answer: Any) -> bool:
    """A tensor or an array without an axis, which Python takes for something to iterate over."""
    return getattr(answer, "ndim", None) == 0


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or _is_scalar(value)


def _number(item: Any) -> float | None:
    if item is None:
        return None
    try:
        if isinstance(item, str | bytes | Sequence):  # float("1") would pass for a number
            raise TypeError
        return float(item)
    except (TypeError, ValueError, RuntimeError):  # a tensor of several raises the last
        raise RewardError(f"must return numbers, Score or None, given {_excerpt(item)} among them") from None


def _excerpt(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 80 else f"{text[:77]}..."
