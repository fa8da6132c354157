"""What all graders of this package share: options, the trained folder, the judge for close cases, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from rlhf import PartConfig
from rlhf.errors import ConfigError
from rlhf.protocols import Grader, Parts
from rlhf.types import Axis, Grade, Rollout
from rlhf_3h.task import Item, Task

if TYPE_CHECKING:
    from rlhf_3h.linear import LinearModel


class TrainedConfig(PartConfig):
    """Options of every grader here."""

    path: str | None = None
    """The folder that `rlhf graders train` wrote."""
    judge: str | dict[str, Any] | None = None
    """Another grader of the same axis (a name, or a table of `type` and its options): it decides the close cases."""
    unsure: float = Field(default=0.2, ge=0, le=0.5)
    """With a `judge`: it is asked where the score is less than this away from 0.5. At 0.5 it is asked about all."""


class TrainedGrader:
    """Grades by a model trained from labelled data. Its verdict on a row does not depend on the other rows."""

    axis: Axis
    task: ClassVar[Task]
    columns: tuple[str, ...] = ()

    def __init__(self, config: TrainedConfig, parts: Parts) -> None:
        from rlhf_3h.linear import how_to_train, load

        self.config = config
        if config.path is None:
            name = self.task.name
            raise ConfigError(f"grader {name} needs `path`, a trained folder; {how_to_train(name)}")
        self.model: LinearModel = load(Path(config.path), self.task.name, self.task.views, self.task.num_numbers)
        if self.model.heads != self.task.heads:
            raise ConfigError(
                f"{config.path} was trained for other labels; {how_to_train(self.task.name, config.path)}"
            )
        self.judge = None if config.judge is None else self._judge(config.judge, parts)

    def _judge(self, named: str | dict[str, Any], parts: Parts) -> Grader:
        options = {"type": named} if isinstance(named, str) else dict(named)
        name = options.pop("type", None)
        if not isinstance(name, str):
            raise ConfigError(f"grader {self.task.name}: judge needs a `type`, the name of a grader, given {named!r}")
        judge = parts.grader(name, options)
        if judge.axis != self.axis:
            raise ConfigError(f"grader {self.task.name}: judge {name!r} grades {judge.axis} answers, not {self.axis}")
        self.columns = tuple(dict.fromkeys([*self.columns, *getattr(judge, "columns", ())]))
        return judge

    def grade(self, rollouts: Sequence[Rollout]) -> list[Grade]:
        """One grade a rollout, in order."""
        from rlhf_3h.fitting import inputs_of

        read = [self._read(rollout) for rollout in rollouts]
        items = [item for item in read if isinstance(item, Item)]
        chances = iter(self.model.probabilities(inputs_of(self.task, items)).tolist() if items else [])
        grades = [
            self._grade(rollout, dict(zip(self.task.heads, next(chances), strict=True)))
            if isinstance(found, Item)
            else Grade(axis=self.axis, score=None, error=found)
            for rollout, found in zip(rollouts, read, strict=True)
        ]
        return self._asked(rollouts, grades)

    def _read(self, rollout: Rollout) -> Item | str:
        """What is judged, or why it cannot be."""
        return Item(question=rollout.prompt.last_user_text, answer=rollout.completion.text)

    def _grade(self, rollout: Rollout, chances: Mapping[str, float]) -> Grade:
        """The verdict, from the probability of each head."""
        raise NotImplementedError

    def _asked(self, rollouts: Sequence[Rollout], grades: list[Grade]) -> list[Grade]:
        """The grades with the judge's in place of those that are close."""
        if self.judge is None:
            return grades
        margin = self.config.unsure
        close = [i for i, g in enumerate(grades) if g.score is not None and abs(g.score - 0.5) <= margin]
        for i, verdict in zip(close, self.judge.grade([rollouts[i] for i in close]) if close else [], strict=True):
            grades[i] = replace(verdict, rationale=f"close ({grades[i].score:.2f}), so judged: {verdict.rationale}")
        return grades

    @classmethod
    def train(  # what it learns depends on no option
        cls,
        config: TrainedConfig,  # noqa: ARG003
        rows: Sequence[Mapping[str, Any]],
        folder: Path,
    ) -> Mapping[str, float | str]:
        """Fit the classifier, write it into `folder`, and say what it reaches in cross-validation.

        Raises:
            DataError: rows of a form this grader does not know, or too few of them.
        """
        from rlhf_3h.fitting import FOLDS, cross_validated, figures, fit, folds, inputs_of, targets_of

        examples = cls.task.examples(rows)
        inputs, targets = inputs_of(cls.task, [e.item for e in examples]), targets_of(cls.task, examples)
        splits = folds([example.group for example in examples])
        found = figures(cls.task.heads, targets, cross_validated(cls.task, inputs, targets, splits))
        fit(cls.task, inputs, targets).save(folder)
        return {"split": f"{FOLDS}-fold cross-validation, no question or answer on both sides", **found}
