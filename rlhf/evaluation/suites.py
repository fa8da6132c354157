"""Suites: which prompts, which grader on which axis, and how a model is put through them.

A suite names its parts; they are found through the registry, so this package knows no data set and no grader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, get_args

from rlhf.config import Part
from rlhf.errors import ConfigError, DataError, RewardError, nearest
from rlhf.evaluation.result import AxisScore, EvaluationResult, GradedRollout
from rlhf.evaluation.statistics import mean_interval
from rlhf.protocols import Dataset, Grader, RolloutEngine
from rlhf.registry import Registry
from rlhf.types import Axis, Grade, Prompt, Rollout, Sampling

AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Held-out prompts of a data set, each graded on the axis its `metadata["axis"]` names."""

    name: str
    dataset: Part
    graders: Mapping[Axis, str]


THREE_H = Suite(
    name="3h",
    dataset=Part(type="pocket"),
    graders={"helpful": "pocket_helpful", "honest": "pocket_honest", "harmless": "pocket_harmless"},
)
SUITES: Mapping[str, Suite] = {suite.name: suite for suite in (THREE_H,)}


class HoldsOut(Protocol):
    """A data set that keeps rows which its training side never shows."""

    def held_out(self) -> Dataset | None: ...


def suite_named(name: str) -> Suite:
    """The suite of this name. Raises `ConfigError` with the nearest one."""
    if name not in SUITES:
        raise ConfigError(f"no suite is called {name!r}.{nearest(name, SUITES)} Known: {', '.join(SUITES)}.")
    return SUITES[name]


def suite_prompts(suite: Suite, dataset: HoldsOut, limit: int | None = None) -> list[Prompt]:
    """Every held-out prompt once, in an order that is the same for every model; at most `limit` of them, as many of one
    axis as of another while there are.
    """
    held_out = dataset.held_out()
    size = held_out.sizes.get("prompts", 0) if held_out is not None else 0
    if held_out is None or not size:
        raise DataError(f"suite {suite.name!r}: data set {suite.dataset.type!r} holds out no prompts.")
    prompts = list(islice(held_out.prompts(seed=0), size))
    return prompts if limit is None or limit >= size else _even(prompts, limit)


def _even(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """`count` of the prompts in their order: the first of each axis, then the second of each, and so on."""
    met: Counter[object] = Counter()
    turns = []
    for place, prompt in enumerate(prompts):
        axis = prompt.metadata.get("axis")
        turns.append((met[axis], place))
        met[axis] += 1
    return [prompts[place] for place in sorted(place for _, place in sorted(turns)[:count])]


def suite_graders(suite: Suite, registry: Registry, *context: object) -> dict[Axis, Grader]:
    """The suite's graders, built by name; `context` is what their factories take beside their options."""
    return {axis: registry.build("grader", name, {}, *context) for axis, name in suite.graders.items()}


def evaluate(
    suite: Suite,
    rollout_engine: RolloutEngine,
    encode_prompt: Callable[[Prompt], Prompt | None],
    graders: Mapping[Axis, Grader],
    prompts: Sequence[Prompt],
    sampling: Sampling,
) -> EvaluationResult:
    """Generate, grade each completion on its prompt's own axis, and average over prompts.

    `encode_prompt` fills `token_ids`, or returns None for a prompt that does not fit, which is dropped and counted. A
    failed grade is left out of the mean and counted; with several samples a prompt's score is the mean of its own.

    Raises `DataError` for a prompt without an axis the suite grades, `RewardError` for a grader that does not return
    one grade of its axis a rollout, with a score in 0..1 or an error.
    """
    for prompt in prompts:
        _check_axis(suite, prompt, graders)
    encoded = [e for e in map(encode_prompt, prompts) if e is not None]
    answers = rollout_engine.generate(encoded, sampling) if encoded else []
    rollouts = [
        Rollout(prompt=prompt, completion=completion)
        for prompt, completions in zip(encoded, answers, strict=True)
        for completion in completions
    ]
    graded: list[GradedRollout] = []
    for axis in (axis for axis in AXES if axis in graders):
        mine = [rollout for rollout in rollouts if rollout.prompt.metadata["axis"] == axis]
        grades = _checked(suite.graders.get(axis, axis), axis, graders[axis].grade(mine), len(mine)) if mine else []
        graded += [GradedRollout(rollout=r, grade=g) for r, g in zip(mine, grades, strict=True)]
    axes = {axis: axis_score(graded, axis) for axis in AXES if axis in graders}
    return EvaluationResult(suite=suite.name, axes=axes, graded=tuple(graded), dropped=len(prompts) - len(encoded))


def axis_score(graded: Sequence[GradedRollout], axis: Axis) -> AxisScore:
    """Mean over prompts of one axis, with its interval; `estimate` is None where no grade succeeded."""
    scores: dict[str, list[float]] = {}
    failed = 0
    for item in graded:
        if item.grade.axis != axis:
            continue
        if item.grade.error is not None:
            failed += 1
        elif item.grade.score is not None:
            scores.setdefault(item.rollout.prompt.id, []).append(item.grade.score)
    means = [sum(values) / len(values) for values in scores.values()]
    return AxisScore(estimate=mean_interval(means) if means else None, failed=failed)


def _check_axis(suite: Suite, prompt: Prompt, graders: Mapping[Axis, Grader]) -> None:
    axis = prompt.metadata.get("axis")
    if axis not in graders:
        raise DataError(
            f"suite {suite.name!r}: prompt {prompt.id!r} has axis {axis!r} in its metadata, and there are graders for "
            f"{', '.join(graders)}; give each prompt one of these."
        )


def _checked(name: str, axis: Axis, grades: Sequence[Grade], expected: int) -> Sequence[Grade]:
    """The grades, if there is one for each rollout and each is of `axis`, with a score in 0..1 or none."""
    if len(grades) != expected:
        raise RewardError(f"grader {name!r} returned {len(grades)} grades for {expected} rollouts.")
    for grade in grades:
        if grade.axis != axis:
            raise RewardError(f"grader {name!r} returned a grade for {grade.axis!r}, not for {axis!r}.")
        if grade.score is not None and not (math.isfinite(grade.score) and 0 <= grade.score <= 1):
            raise RewardError(f"grader {name!r} returned score {grade.score}, outside 0..1.")
    return grades
