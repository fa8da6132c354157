"""`preferred`: would people like this answer better than another? A Bradley-Terry score learnt from their choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rlhf.types import Axis, Grade, Rollout
from rlhf_3h.task import Example, Item, Task, texts
from rlhf_3h.trained import TrainedConfig, TrainedGrader
from rlhf_3h.usefulness import NUM_ENDING, NUM_MANNER, NUM_RELEVANCE, ending, manner, relevance

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


class PreferredTask(Task):
    """The chosen answer and the rejected one, in turn; what is learnt is the difference (Bradley and Terry 1952)."""

    name = "preferred"
    heads: ClassVar[tuple[str, ...]] = ("preferred",)
    num_numbers = NUM_RELEVANCE + NUM_ENDING + NUM_MANNER
    strength = 0.1
    rows = "prompt, chosen and rejected, or chosen and rejected alone as transcripts of Human and Assistant"

    def numbers(self, item: Item) -> list[float]:
        return [*relevance(item), *ending(item), *manner(item)]

    def examples(self, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
        found = []
        for number, row in enumerate(rows, 1):
            given = texts(row, ("chosen", "rejected"))
            if given is None:
                raise self.refuse(row, number)
            items = [self._item(row, text, number) for text in given]
            for item, target in zip(items, (1.0, 0.0), strict=True):
                found.append(Example(item=item, targets={"preferred": target}, group=items[0].question))
        return found

    def _item(self, row: Mapping[str, Any], text: str, number: int) -> Item:
        if isinstance(row.get("prompt"), str):
            return Item(question=row["prompt"], answer=text)
        before, marker, answer = text.rpartition(_ASSISTANT)
        if not marker:
            raise self.refuse(row, number)
        return Item(question=before.rpartition(_HUMAN)[2].strip(), answer=answer.strip())


class Preferred(TrainedGrader):
    """How likely people are to choose the answer over a middling one of the same question."""

    axis: Axis = "helpful"
    task: ClassVar[Task] = PreferredTask()

    def _grade(self, rollout: Rollout, chances: Mapping[str, float]) -> Grade:
        return Grade(
            axis=self.axis, score=chances["preferred"], rationale="by its length, form and cover of the question"
        )

    @classmethod
    def train(  # what it learns depends on no option
        cls,
        config: TrainedConfig,  # noqa: ARG003
        rows: Sequence[Mapping[str, Any]],
        folder: Path,
    ) -> Mapping[str, float | str]:
        """As of the others; the figures are of pairs told apart."""
        from rlhf_3h.fitting import FOLDS, folds, inputs_of
        from rlhf_3h.pairs import cross_validated_pairs, figures_of_pairs, fit_pairs

        examples = cls.task.examples(rows)
        inputs = inputs_of(cls.task, [e.item for e in examples])
        splits = folds([example.group for example in examples[::2]])
        found = figures_of_pairs(cross_validated_pairs(cls.task, inputs, splits))
        fit_pairs(cls.task, inputs).save(folder)
        return {"split": f"{FOLDS}-fold cross-validation, no question on both sides", **found}
