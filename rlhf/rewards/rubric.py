"""The reward of a rollout: parts, each a named reward, made into one number. A part that fails is never a zero.

Two steps: `judge` asks the parts, about any rollouts in any company, so that it can be done while others are being
written; `combine` makes numbers of what they said, of all rollouts of a step together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlhf.rewards.asking import AskedReward
from rlhf.rewards.failures import Failures
from rlhf.rewards.gates import Judged, passes, waves
from rlhf.rewards.normalising import Normaliser
from rlhf.rewards.ranking import lexicographic
from rlhf.types import Rollout, Score

Combine = Literal["sum", "lexicographic"]


@dataclass(frozen=True)
class Judgement:
    """The number and its parts, or the error that prevented it."""

    total: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


class Rubric:
    """Judges rollouts by all parts.

    A part may answer None for a rollout it does not speak of. A rollout no part speaks of is worth `otherwise`; where
    that is None its `error` is set. `what` is what errors and metrics call a part: a reward or a cost.
    """

    def __init__(
        self,
        parts: Sequence[AskedReward],
        what: str = "reward",
        otherwise: float | None = None,
        *,
        combine: Combine = "sum",
        failures: Failures | None = None,
    ) -> None:
        self.parts = tuple(parts)
        self.what = what
        self._otherwise, self._combine = otherwise, combine
        self._failures = failures or Failures(what)
        self._normalisers = {part.name: Normaliser(part.config.normalize) for part in parts}
        by_name = {part.name: part for part in parts}
        self._configs = {part.name: part.config for part in parts}
        ordered = waves(self._configs)
        self._waves = [[by_name[name] for name in wave] for wave in ordered]
        self._threads = ThreadPoolExecutor(max_workers=max(1, len(parts)), thread_name_prefix=what)

    # --- asking ------------------------------------------------------------------------------------------------------

    def judge(self, rollouts: Sequence[Rollout]) -> list[Judged]:
        """What the parts say of each rollout, in order; parts are asked at the same time, and after their gates."""
        judged: list[dict[str, Score]] = [{} for _ in rollouts]
        for wave in self._waves:
            asked = [(part, [row for row, known in enumerate(judged) if passes(part.config, known)]) for part in wave]
            at_once = self._threads.map if len(asked) > 1 else map
            answers = at_once(lambda ask: ask[0]([rollouts[row] for row in ask[1]]), asked)
            for (part, rows), scores in zip(asked, list(answers), strict=True):
                for row, score in zip(rows, scores, strict=True):
                    judged[row][part.name] = score
        return [*judged]

    # --- making one number -------------------------------------------------------------------------------------------

    def combine(self, rollouts: Sequence[Rollout], judged: Sequence[Judged]) -> list[Judgement]:
        """One judgement a rollout of a whole step, in order. Raises `RewardError` where a recipe says so."""
        errors = self._failures.met(self.parts, rollouts, judged)
        judgements = [self._raw(row, error) for row, error in zip(judged, errors, strict=True)]
        judged_rows = [row for row, judgement in enumerate(judgements) if judgement.error is None]
        values = self._normalised([judgements[row] for row in judged_rows])
        for row, total in zip(judged_rows, self._totals([rollouts[row] for row in judged_rows], values), strict=True):
            judgements[row] = replace(judgements[row], total=total)
        return judgements

    def score(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Both steps: the same rollouts, in order, with `reward` and `reward_parts`, or `error`."""
        judged = zip(rollouts, self.combine(rollouts, self.judge(rollouts)), strict=True)
        return [replace(r, reward=j.total, reward_parts=j.parts, error=j.error) for r, j in judged]

    def _raw(self, row: Judged, error: str | None) -> Judgement:
        """The values before weights and normalisation."""
        if error is not None:
            return Judgement(error=error)
        parts: dict[str, float] = {}
        for name, score in row.items():
            value = self._configs[name].penalty if score.error is not None else score.value
            if value is not None:
                parts[name] = value
                parts |= {f"{name}/{part}": number for part, number in score.parts.items()}
        if self._otherwise is None and not any(name in parts for name in self._configs):
            return Judgement(error=f"no {self.what} applies (all of {', '.join(row)} gave None)")
        return Judgement(parts=parts)

    def _normalised(self, judgements: Sequence[Judgement]) -> list[dict[str, float]]:
        """Of each rollout, the values by part, normalised."""
        values: list[dict[str, float]] = [{} for _ in judgements]
        for part in self.parts:
            rows = [row for row, judgement in enumerate(judgements) if part.name in judgement.parts]
            normalised = self._normalisers[part.name]([judgements[row].parts[part.name] for row in rows])
            for row, value in zip(rows, normalised, strict=True):
                values[row][part.name] = value
        return values

    def _totals(self, rollouts: Sequence[Rollout], values: Sequence[Mapping[str, float]]) -> list[float | None]:
        weights = {name: config.weight for name, config in self._configs.items()}
        if self._combine == "lexicographic":
            columns = [[weight * row.get(name, 0.0) for name, weight in weights.items()] for row in values]
            return [*lexicographic(columns, [rollout.prompt.id for rollout in rollouts])]
        return [sum(weights[name] * value for name, value in row.items()) if row else self._otherwise for row in values]

    # --- a run -------------------------------------------------------------------------------------------------------

    def take_errors(self) -> dict[str, float]:
        """Metrics of failures since they were asked for last: `reward/NAME/errors`."""
        return self._failures.take()

    def state(self) -> dict[str, Any]:
        """What a resumed run must know of each part: running means, what it was told, how often it failed."""
        return {
            part.name: self._normalisers[part.name].state() | part.state() | self._failures.state(part)
            for part in self.parts
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for part in self.parts:
            known = state[part.name]
            self._normalisers[part.name].restore(known)
            part.restore(known)
            self._failures.restore(part, known)

    def close(self) -> None:
        """End the processes of the parts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for part in self.parts:
            part.close()
