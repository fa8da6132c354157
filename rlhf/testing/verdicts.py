"""A reward's or a grader's answers in one form, so that one contract can be put to both."""

from __future__ import annotations

import math
import re
import sysconfig
import traceback
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

from rlhf.errors import RewardError
from rlhf.protocols import Grader, RewardFn
from rlhf.rewards.answers import batch_scores
from rlhf.types import Axis, Grade, Rollout, Score

_PACKAGE = Path(__file__).resolve().parents[1]


class BrokenAnswer(Exception):
    """The answer to a whole batch is not what the protocol says: no list, or of another length."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was said of one rollout: a number, an error, or neither where the reward does not apply.

    `fault` says what breaks the protocol: NaN, a wrong type, a score outside 0..1.
    """

    value: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    rationale: str = ""
    fault: str | None = None

    def agrees_with(self, other: Verdict) -> bool:
        """The same value but for rounding, as batches of another shape may give, or both without one."""
        if self.value is None or other.value is None:
            return self.value is other.value and (self.error is None) == (other.error is None)
        return math.isclose(self.value, other.value, rel_tol=1e-4, abs_tol=1e-4)

    def __str__(self) -> str:
        if self.value is not None:
            return f"{self.value:.6g}"
        return f"an error ({excerpt(self.error)})" if self.error is not None else "None"


class Judge(Protocol):
    """A reward or a grader, built."""

    columns: tuple[str, ...]
    """Columns of the data it cannot do without."""
    reads_columns: bool
    """It is given columns, and not rollouts: a plain function that cannot do without some."""

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """One verdict a rollout, in order. What the reward or grader raises is passed on; see `BrokenAnswer`."""
        ...

    def speaks_of(self, rollout: Rollout) -> bool:
        """Whether this rollout is of its kind."""
        ...


class RewardJudge:
    """Verdicts of a reward."""

    def __init__(self, reward: RewardFn, columns: Sequence[str] = (), *, reads_columns: bool = False) -> None:
        self.reward = reward
        self.columns = tuple(columns)
        self.reads_columns = reads_columns
        self.optional_columns: tuple[str, ...] = tuple(getattr(reward, "optional_columns", ()))
        """Columns it makes do without."""
        self.reads_turns: bool = getattr(reward, "reads_turns", False)
        """A plain function that is written for conversations."""

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        try:
            scores = batch_scores(self.reward(rollouts), len(rollouts))
        except RewardError as error:
            raise BrokenAnswer(f"it {error}") from error
        return [_of_reward(score) for score in scores]

    def close(self) -> None:
        """End the processes of a reward that has some."""
        close = getattr(self.reward, "close", None)
        if close is not None:
            close()

    def speaks_of(self, rollout: Rollout) -> bool:
        return True


class GraderJudge:
    """Verdicts of a grader."""

    reads_columns = False

    def __init__(self, grader: Grader) -> None:
        self.axis: Axis = getattr(grader, "axis", None)  # type: ignore[assignment]
        if self.axis not in get_args(Axis):
            raise BrokenAnswer(f"its `axis` must be one of {', '.join(get_args(Axis))}, given {self.axis!r}")
        self.grader = grader
        self.columns = tuple(getattr(grader, "columns", ()))

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        return [self._of_grade(item) for item in _listed(self.grader.grade(rollouts), len(rollouts))]

    def speaks_of(self, rollout: Rollout) -> bool:
        """A row that names an axis is for the graders of that axis."""
        return bool(rollout.prompt.metadata.get("axis", self.axis) == self.axis)

    def _of_grade(self, item: Any) -> Verdict:
        if not isinstance(item, Grade):
            return Verdict(fault=f"{excerpt(item)} is no Grade")
        if item.axis != self.axis:
            return Verdict(fault=f"a grade for {item.axis!r}, and its axis is {self.axis!r}")
        if item.score is None:
            return Verdict(error=item.error, rationale=item.rationale)
        verdict = _number(item.score, {}, item.rationale)
        if verdict.value is not None and not 0 <= verdict.value <= 1:
            return Verdict(fault=f"score {item.score}, outside 0..1")
        return verdict


def cause_of(error: BaseException) -> str:
    """`KeyError: 'x' (reward.py, line 12)`: in one line, with the place in the guest's own code."""
    text = excerpt(" ".join(str(error).split()) or "no message", 300)
    return f"{type(error).__name__}: {text}{_place(error)}"


def excerpt(value: Any, length: int = 80) -> str:
    """A value in one line of at most this length, with what cannot be printed written out."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * length].split()) if len(text) > length or not text.isprintable() else text
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return text if len(text) <= length else text[: length - 3] + "..."


def _listed(values: object, count: int) -> list[Any]:
    if not isinstance(values, Iterable) or isinstance(values, str | Mapping | AbstractSet):
        raise BrokenAnswer(f"it must return a list, given {type(values).__name__}")
    items = list(values)
    if len(items) != count:
        raise BrokenAnswer(f"it returned {len(items)} answers for {count} completions")
    return items


def _of_reward(score: Score) -> Verdict:
    if score.details:  # what was raised, caught row by row
        return Verdict(fault=f"{score.error}{_place_told(score.details)}")
    if score.error is not None or score.value is None:
        return Verdict(error=score.error, parts=score.parts)
    return _number(score.value, score.parts, "")


def _number(item: Any, parts: Mapping[str, float], rationale: str) -> Verdict:
    try:
        if isinstance(item, str):  # float("1") would pass for a number
            raise TypeError
        value = float(item)
    except (TypeError, ValueError):
        return Verdict(fault=f"{excerpt(repr(item))} is no number")
    if not math.isfinite(value):
        return Verdict(fault=f"{value} is not finite")
    return Verdict(value=value, parts=parts, rationale=rationale)


def _place(error: BaseException) -> str:
    """Where it was raised, in the file of the guest that was called; empty where no guest was."""
    library = Path(sysconfig.get_path("stdlib"))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_within(f.filename, _PACKAGE)]
    guests = [f for f in frames if not _is_within(f.filename, library) or "site-packages" in f.filename]
    if not guests:
        return ""
    innermost = [f for f in guests if f.filename == guests[0].filename][-1]
    return f" ({Path(innermost.filename).name}, line {innermost.lineno})"


def _place_told(details: str) -> str:
    """The same, from the traceback of another process."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', details)
    guests = [(file, line) for file, line in frames if not _is_within(file, _PACKAGE) and Path(file).is_file()]
    mine = [frame for frame in guests if frame[0] == guests[0][0]]
    return f" ({Path(mine[-1][0]).name}, line {mine[-1][1]})" if mine else ""


def _is_within(file: str, folder: Path) -> bool:
    return Path(file).is_relative_to(folder)
