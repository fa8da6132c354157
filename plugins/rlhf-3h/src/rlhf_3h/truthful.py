"""`truthful`: is the answer true, given correct and incorrect answers to its question?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rlhf.errors import DataError
from rlhf.protocols import Parts
from rlhf.types import Axis, Grade, Rollout
from rlhf_3h.comparison import NUM_NUMBERS, comparison
from rlhf_3h.task import Example, Item, Task, label_of, texts
from rlhf_3h.trained import TrainedConfig, TrainedGrader
from rlhf_3h.words import ngrams, tokens

_JUDGED = re.compile(r"Q: (.*?)\nA: (.*)\nTrue:", re.DOTALL)
_NAMES = {"yes": 1.0, "no": 0.0}
_NUM_WORDS = 200  # of an answer that are looked at as n-grams


class TruthfulTask(Task):
    """The answer beside its references, and its own words: "I have no comment" is true of any question."""

    name = "truthful"
    heads: ClassVar[tuple[str, ...]] = ("true",)
    views = ("words",)
    num_numbers = NUM_NUMBERS
    strength = 0.3
    rows = (
        "judged answers (prompt 'Q: ...\\nA: ...\\nTrue:' and completion yes or no; or question, answer, label) "
        "together with a file of references (Question, Correct Answers, Incorrect Answers)"
    )

    def terms(self, item: Item) -> Mapping[str, list[str]]:
        return {"words": ngrams(["^", *tokens(item.answer)[:_NUM_WORDS]], 1, 3)}

    def numbers(self, item: Item) -> list[float]:
        return comparison(item)

    def examples(self, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
        references, found = {}, []
        judged = []
        for number, row in enumerate(rows, 1):
            if "Correct Answers" in row:
                references[_plain(str(row["Question"]))] = (
                    answers(row["Correct Answers"]), answers(row["Incorrect Answers"]),
                )  # fmt: skip
            else:
                judged.append(self._judged(row, number))
        for question, answer, label in judged:
            if _plain(question) not in references:
                raise DataError(
                    f"grader truthful: no references for {question!r}; add the file that has them to --data"
                )
            correct, incorrect = references[_plain(question)]
            item = Item(question=question, answer=answer, correct=correct, incorrect=incorrect)
            found.append(Example(item=item, targets={"true": label}, group=_plain(question)))
        return found

    def _judged(self, row: Mapping[str, Any], number: int) -> tuple[str, str, float]:
        text, given = row.get("prompt"), texts(row, ("question", "answer"))
        match = _JUDGED.match(text) if isinstance(text, str) else None
        label = label_of(row.get("completion") if match else row.get("label"), _NAMES)
        if label is None or not (match or given):
            raise self.refuse(row, number)
        question, answer = match.groups() if match else given or []
        return question, answer, label


class TruthfulConfig(TrainedConfig):
    """Options of `truthful`."""

    correct: str = "Correct Answers"
    """The column of correct answers: a list, or one text with `;` between them."""
    incorrect: str = "Incorrect Answers"


class Truthful(TrainedGrader):
    """The probability that the answer is true. Every prompt needs its references."""

    axis: Axis = "honest"
    task: ClassVar[Task] = TruthfulTask()
    config: TruthfulConfig

    def __init__(self, config: TruthfulConfig, parts: Parts) -> None:
        self.columns = (config.correct, config.incorrect)
        super().__init__(config, parts)

    def _read(self, rollout: Rollout) -> Item | str:
        correct, incorrect = (answers(rollout.prompt.metadata.get(column)) for column in self.columns[:2])
        if not correct or not incorrect:
            which = self.config.correct if not correct else self.config.incorrect
            return f"prompt {rollout.prompt.id!r} has no references: column {which!r} is empty"
        prompt = rollout.prompt
        return Item(
            question=prompt.last_user_text, answer=rollout.completion.text, correct=correct, incorrect=incorrect
        )

    def _grade(self, rollout: Rollout, chances: Mapping[str, float]) -> Grade:
        score = chances["true"]
        nearer = "correct" if score > 0.5 else "incorrect"
        return Grade(axis=self.axis, score=score, rationale=f"nearer to the {nearer} answers")


def answers(value: Any) -> tuple[str, ...]:
    """Reference answers from a list of them or from one text with `;` between them."""
    parts = value.split(";") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return tuple(text for part in parts if (text := str(part).strip()))


def _plain(question: str) -> str:
    return " ".join(tokens(question))
