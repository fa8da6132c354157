"""The prompts of the embedded world, each with the one right answer.

The world is fixed: which facts are taught and which content is held out follow from the content alone, never from a
seed. Two data sets of different seeds therefore agree on the facts, and no prompt of a held-out set can be among the
training prompts of any other.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from rlhf.pocket.vocabulary import (
    BEINGS,
    FACT_ANSWER,
    FACT_PHRASINGS,
    FORMATS,
    GENTLE_TOOLS,
    HARSH_TOOLS,
    NAMES,
    NOUNS,
    OPENERS,
    REFUSAL,
    REQUEST_PHRASINGS,
    SORT_PHRASINGS,
    SUM_PHRASINGS,
    THINGS,
    TOOL_ANSWER,
    TOOLS,
    UNKNOWN,
    VALUES,
    WORD_TASKS,
)
from rlhf.types import Axis, Prompt

AXES: tuple[Axis, ...] = ("helpful", "honest", "harmless")
HELD_OUT_SHARE = 5
"""One content in so many is held out."""
KNOWN_SHARE = 3
"""One fact in so many is taught."""
LARGEST_ADDEND = 6


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question and its right answer, before it becomes a `Prompt`.

    `content` is what the answer should say and `answer` how it should be written; they differ where a format is asked
    for. `held_out` tells to which side of the split it belongs.
    """

    axis: Axis
    name: str
    question: str
    answer: str
    content: str
    held_out: bool

    def prompt(self, opener: str = "") -> Prompt:
        """The prompt of this task; its id is its text, so equal prompts have equal ids."""
        text = f"{opener} {self.question}".strip()
        return Prompt(
            id=f"pocket/{text}",
            messages=({"role": "user", "content": text},),
            reference=self.answer,
            metadata={"axis": self.axis, "task": self.name, "answer": self.answer, "content": self.content},
        )


def _bucket(*content: str) -> int:
    """A number that depends on the content alone, the same in every process and Python version."""
    return zlib.crc32(" ".join(content).encode())


def _held_out(*content: str) -> bool:
    return _bucket("held out", *content) % HELD_OUT_SHARE == 0


def true_value(name: str, attribute: str) -> str | None:
    """The taught value of a being's attribute, or None where the right answer is not to know."""
    if _bucket("known", name, attribute) % KNOWN_SHARE:
        return None
    values = VALUES[attribute]
    return values[_bucket("value", name, attribute) % len(values)]


def facts() -> Iterator[Task]:
    """Every question about a fact. Known facts are held out by phrasing, unknown ones by (being, attribute)."""
    for name in NAMES:
        for attribute in VALUES:
            value = true_value(name, attribute)
            answer = UNKNOWN if value is None else FACT_ANSWER.format(value)
            for phrasing in FACT_PHRASINGS:
                key = (name, attribute) if value is None else (name, attribute, phrasing)
                yield Task(
                    axis="honest",
                    name="unknown" if value is None else "known",
                    question=phrasing.format(attribute=attribute, name=name),
                    answer=answer,
                    content=answer,
                    held_out=_held_out(*key),
                )


def requests() -> Iterator[Task]:
    """Every request for a way to do something: harmful if and only if a harsh verb meets a living being."""
    kinds = (
        ("harmful", HARSH_TOOLS, BEINGS),
        ("look-alike", HARSH_TOOLS, THINGS),
        ("gentle", GENTLE_TOOLS, (*BEINGS, *THINGS)),
    )
    for kind, verbs, nouns in kinds:
        for verb in verbs:
            for noun in nouns:
                answer = REFUSAL if kind == "harmful" else TOOL_ANSWER.format(TOOLS[verb])
                for phrasing in REQUEST_PHRASINGS:
                    question = phrasing.format(verb=verb, noun=noun)
                    held_out = _held_out(verb, noun)
                    yield Task(
                        axis="harmless", name=kind, question=question, answer=answer, content=answer, held_out=held_out
                    )


def _word_task(rng: random.Random) -> tuple[str, str, str, bool]:
    name = rng.choice(tuple(WORD_TASKS))
    words = rng.sample(NOUNS, rng.randint(2, 3))
    answers = {
        "repeat": words,
        "reverse": words[::-1],
        "count": [str(len(words))],
        "first": words[:1],
        "last": words[-1:],
    }
    question = rng.choice(WORD_TASKS[name]).format(" ".join(words))
    return name, question, " ".join(answers[name]), _held_out(*words)


def _sort_task(rng: random.Random) -> tuple[str, str, str, bool]:
    numbers = rng.sample(range(10), rng.randint(2, 3))
    listed = " ".join(map(str, numbers))
    question = rng.choice(SORT_PHRASINGS).format(listed)
    return "sort", question, " ".join(map(str, sorted(numbers))), _held_out(listed)


def _sum_task(rng: random.Random) -> tuple[str, str, str, bool]:
    a, b = rng.randint(0, LARGEST_ADDEND), rng.randint(0, LARGEST_ADDEND)
    return "sum", rng.choice(SUM_PHRASINGS).format(a, b), str(a + b), _held_out(str(a), "+", str(b))


def instruction(rng: random.Random) -> Task:
    """A random instruction that can be checked; one in four asks for a format."""
    make = rng.choices((_word_task, _sort_task, _sum_task), weights=(8, 2, 1))[0]
    name, question, content, held_out = make(rng)
    answer = content
    if rng.random() < 0.25:
        asked, before, after = FORMATS[rng.choice(tuple(FORMATS))]
        question, answer = f"{asked} {question}", f"{before} {content} {after}"
    return Task(axis="helpful", name=name, question=question, answer=answer, content=content, held_out=held_out)


class Sampler:
    """Draws tasks of one side of the split, the kinds within an axis in fixed shares."""

    def __init__(self, held_out: bool) -> None:
        self._held_out = held_out
        self._by_kind: dict[str, list[Task]] = {}
        for task in (*facts(), *requests()):
            if task.held_out == held_out:
                self._by_kind.setdefault(task.name, []).append(task)

    def draw(self, axis: Axis, rng: random.Random) -> Prompt:
        """A random prompt of this axis."""
        return self._task(axis, rng).prompt(rng.choice(OPENERS))

    def distinct(self, axis: Axis, count: int, rng: random.Random) -> list[Prompt]:
        """`count` different prompts of this axis; the config keeps `count` below what the world holds."""
        found: dict[str, Prompt] = {}
        while len(found) < count:
            prompt = self.draw(axis, rng)
            found.setdefault(prompt.id, prompt)
        return list(found.values())

    def _task(self, axis: Axis, rng: random.Random) -> Task:
        if axis == "honest":
            return rng.choice(self._by_kind[rng.choice(("known", "unknown"))])
        if axis == "harmless":
            return rng.choice(self._by_kind[rng.choices(("harmful", "look-alike", "gentle"), weights=(3, 2, 1))[0]])
        while True:
            task = instruction(rng)
            if task.held_out == self._held_out:
                return task
