"""`relevant` and `complete`: is this an answer to this question, and is it a whole one?

Both learn without labels from any file of questions and answers: an answer of another question is not relevant, and
one that has been cut short is not complete.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from rlhf.types import Axis, Grade, Rollout
from rlhf_3h.task import Example, Item, Task, texts
from rlhf_3h.trained import TrainedGrader
from rlhf_3h.usefulness import NUM_ENDING, NUM_RELEVANCE, ending, relevance
from rlhf_3h.words import sentences

_COLUMNS = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("instruction", "response"))
_SHORTEST = 40  # characters of an answer that can be cut


def answered(task: Task, rows: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Questions with their answers; empty answers are left out."""
    found = []
    for number, row in enumerate(rows, 1):
        given = next((pair for columns in _COLUMNS if (pair := texts(row, columns))), None)
        if given is None:
            raise task.refuse(row, number)
        context = row.get("input") or row.get("context") or ""
        question = f"{given[0]}\n{context}".strip()
        if given[1].strip():
            found.append(Item(question=question, answer=given[1]))
    return found


class RelevantTask(Task):
    """Each answer with its own question, and with that of a row half the file away."""

    name = "relevant"
    heads: ClassVar[tuple[str, ...]] = ("relevant",)
    num_numbers = NUM_RELEVANCE
    strength = 1.0
    rows = "questions and answers: " + ", ".join(" + ".join(pair) for pair in _COLUMNS)

    def numbers(self, item: Item) -> list[float]:
        return relevance(item)

    def examples(self, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
        items = answered(self, rows)
        found = []
        for number, item in enumerate(items):
            other = items[(number + len(items) // 2) % len(items)].answer
            found.append(Example(item=item, targets={"relevant": 1.0}, group=item.question))
            if other != item.answer:
                found.append(Example(item=replace(item, answer=other), targets={"relevant": 0.0}, group=item.question))
        return found


class Relevant(TrainedGrader):
    """The probability that the answer belongs to its question, by what of the question it takes up."""

    axis: Axis = "helpful"
    task: ClassVar[Task] = RelevantTask()

    def _grade(self, rollout: Rollout, chances: Mapping[str, float]) -> Grade:
        score = chances["relevant"]
        return Grade(axis=self.axis, score=score, rationale="to the point" if score > 0.5 else "of something else")


class CompleteTask(Task):
    """Each answer whole, and cut: every other one after a sentence, the rest in the middle of one."""

    name = "complete"
    heads: ClassVar[tuple[str, ...]] = ("complete",)
    num_numbers = NUM_RELEVANCE + NUM_ENDING
    strength = 1.0
    rows = RelevantTask.rows

    def numbers(self, item: Item) -> list[float]:
        return [*relevance(item), *ending(item)]

    def examples(self, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
        found = []
        for item in answered(self, rows):
            found.append(Example(item=item, targets={"complete": 1.0}, group=item.question))
            short = _cut(item.answer)
            if short:
                found.append(Example(item=replace(item, answer=short), targets={"complete": 0.0}, group=item.question))
        return found


class Complete(TrainedGrader):
    """The probability that the answer is whole; 0 where it was cut at `max_tokens`."""

    axis: Axis = "helpful"
    task: ClassVar[Task] = CompleteTask()

    def _grade(self, rollout: Rollout, chances: Mapping[str, float]) -> Grade:
        if rollout.completion.finish_reason == "length":
            return Grade(axis=self.axis, score=0.0, rationale="cut at max_tokens")
        score = chances["complete"]
        return Grade(axis=self.axis, score=score, rationale="whole" if score > 0.5 else "stops before its end")


def _cut(answer: str) -> str:
    """The answer without its end, by a place that its own text decides; empty where it is too short."""
    digest = zlib.crc32(answer.encode())
    parts = sentences(answer)
    if digest % 2 and len(parts) > 1:
        kept = parts[: 1 + digest % (len(parts) - 1)]
        return answer[: answer.index(kept[-1]) + len(kept[-1])]
    if len(answer) < _SHORTEST:
        return ""
    return answer[: len(answer) // 5 + digest % (len(answer) * 3 // 5)].rstrip()
