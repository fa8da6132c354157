"""A reward or a grader tried on rows of data: every row judged, and what the answers amount to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from rlhf.errors import RewardError, RunError, UserError
from rlhf.evaluation.statistics import Estimate, mean_interval
from rlhf.testing.rollouts import rollout
from rlhf.testing.rows import TriedRow, TriedRows
from rlhf.testing.verdicts import BrokenAnswer, Judge, Verdict, cause_of, excerpt
from rlhf.types import Rollout

_BATCH = 64


@dataclass(frozen=True)
class Tried:
    """One completion of a row, by its place there, and the verdict on it."""

    row: TriedRow
    place: int
    rollout: Rollout
    verdict: Verdict

    @property
    def side(self) -> str:
        """`chosen` and `rejected` of a pair, `1 of 4` of a longer ranking; empty where there is one completion."""
        count = len(self.row.completions)
        if count == 1:
            return ""
        return ("chosen", "rejected")[self.place] if count == 2 else f"{self.place + 1} of {count}"


@dataclass(frozen=True)
class Trial:
    """All verdicts, in the order of the data."""

    tried: Sequence[Tried]
    seconds: float
    other_axis: int = 0
    """Completions passed over, since their row names another axis than the grader's."""

    @property
    def values(self) -> list[float]:
        return [tried.verdict.value for tried in self.tried if tried.verdict.value is not None]

    @property
    def num_errors(self) -> int:
        """Completions that could not be judged."""
        return sum(tried.verdict.error is not None for tried in self.tried)

    @property
    def num_faults(self) -> int:
        """Completions whose answer breaks the protocol: an exception, NaN, what is no number."""
        return sum(tried.verdict.fault is not None for tried in self.tried)

    @property
    def mean(self) -> Estimate | None:
        """Over prompts, several completions of one being averaged first; None where nothing was scored."""
        means = self.row_means
        return mean_interval(means) if means else None

    @property
    def row_means(self) -> list[float]:
        """The mean score of each prompt that has one."""
        return [fmean(scores) for scores in self._by_row() if scores]

    @property
    def std(self) -> float | None:
        return pstdev(self.values) if self.values else None

    @property
    def in_order(self) -> Estimate | None:
        """How often the better of two completions of a ranking has the higher score; a tie counts half. Over rankings,
        of which each counts once.
        """
        shares = self.shares_in_order
        return mean_interval(shares) if shares else None

    @property
    def shares_in_order(self) -> list[float]:
        """The same of each ranking."""
        return [share for scores in self._by_row(ranked=True) if (share := _share_in_order(scores)) is not None]

    @property
    def rows_per_second(self) -> float:
        return len(self.tried) / self.seconds if self.seconds else math.inf

    def _by_row(self, *, ranked: bool = False) -> Iterator[list[float]]:
        """Scores of each row, in the order of its completions; none of a ranking where one is missing."""
        scores: dict[str, list[float]] = {}
        for tried in self.tried:
            if tried.row.is_ranked or not ranked:
                mine = scores.setdefault(tried.row.prompt.id, [])
                mine += [] if tried.verdict.value is None else [tried.verdict.value]
        whole = {tried.row.prompt.id: len(tried.row.completions) for tried in self.tried}
        return (mine for name, mine in scores.items() if not ranked or len(mine) == whole[name])


def try_judge(judge: Judge, data: TriedRows, part: str) -> Trial:
    """Judge every completion of the data. One that raises is a verdict with a fault, and not the end.

    Raises `DataError` for a column that is missing, and `RewardError` where the answer to a batch is not one a row.
    """
    data.require_columns(part, judge.columns)
    given = [(row, place, rollout(row.prompt, text)) for row in data.rows for place, text in enumerate(row.completions)]
    mine = [item for item in given if judge.speaks_of(item[2])]
    tried: list[Tried] = []
    started = time.perf_counter()
    for start in range(0, len(mine), _BATCH):
        batch = mine[start : start + _BATCH]
        verdicts = _judged(judge, [item[2] for item in batch], part)
        tried += [Tried(*item, verdict) for item, verdict in zip(batch, verdicts, strict=True)]
    return Trial(tried, time.perf_counter() - started, len(given) - len(mine))


def _judged(judge: Judge, rollouts: Sequence[Rollout], part: str) -> list[Verdict]:
    try:
        verdicts = judge.judge(rollouts)
        faults = {verdict.fault for verdict in verdicts}
        if len(verdicts) > 1 and len(faults) == 1 and str(*faults).startswith("raised "):
            return [_judged_alone(judge, rollout) for rollout in rollouts]  # a batch that raised: which row was it?
        return verdicts
    except (RunError, UserError):  # has its own words: an endpoint that is down, a model that is missing
        raise
    except BrokenAnswer as error:
        raise RewardError(f"{part}: {error}") from error
    except Exception as error:
        verdicts = [_judged_alone(judge, rollout) for rollout in rollouts]
        if not any(verdict.fault for verdict in verdicts):
            raise RewardError(
                f"{part} raised {cause_of(error)} for {len(rollouts)} completions at once, and for none of them alone"
            ) from error
        return verdicts


def _judged_alone(judge: Judge, rollout: Rollout) -> Verdict:
    try:
        return judge.judge([rollout])[0]
    except (RunError, UserError):
        raise
    except Exception as error:  # noqa: BLE001 - the batch raised, and this says which row did
        return Verdict(fault=f"raised {excerpt(cause_of(error), 200)}")


def _share_in_order(scores: Sequence[float]) -> float | None:
    """Of all pairs of a ranking, best first, the share that is in order."""
    pairs = [(better, worse) for place, better in enumerate(scores) for worse in scores[place + 1 :]]
    if not pairs:
        return None
    return fmean((better > worse) + 0.5 * (better == worse) for better, worse in pairs)
