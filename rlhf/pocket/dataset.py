"""The embedded world as a data set: prompts, demonstrations of mixed quality, rankings with noisy labels, texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import TypeVar

from pydantic import Field, model_validator

from rlhf.config import PartConfig
from rlhf.errors import DataError
from rlhf.pocket.answers import bad_answer, good_answer, mistake
from rlhf.pocket.graders import gold_score
from rlhf.pocket.tasks import AXES, Sampler
from rlhf.pocket.vocabulary import vocabulary_texts
from rlhf.types import Axis, Demonstration, LabelledCompletion, Prompt, Ranking, SteppedCompletion

Row = TypeVar("Row")

_LESSONS: tuple[Axis, ...] = ("helpful", "honest", "helpful", "harmless")
"""Axes of demonstrations and rankings, in turn: instructions are the most varied, so they come twice as often."""


class PocketConfig(PartConfig):
    """How much of the embedded world to draw, and how flawed its teachers are."""

    num_prompts: int = Field(default=2400, ge=3, le=3600)
    """Different training prompts, a third of them on each axis."""
    num_demonstrations: int = Field(default=48000, ge=0)
    bad_share: float = Field(default=0.4, ge=0, le=1)
    """Share of the demonstrations that show bad behaviour."""
    num_rankings: int = Field(default=16000, ge=0)
    num_candidates: int = Field(default=2, ge=2, le=6)
    """Completions in a ranking; one of them is right."""
    mistake_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the other completions that are mistakes as a policy makes them; the rest are bad behaviour."""
    label_noise: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the rankings in which the best completion has changed places with another."""
    num_held_out: int = Field(default=450, ge=3, le=750)
    """Prompts never trained on, a third of them on each axis; as many demonstrations and rankings, without noise."""
    seed: int = 0
    """Of the rows drawn; the world itself (facts, what is held out) is the same for every seed."""

    @model_validator(mode="after")
    def _there_are_so_many_wrong_answers(self) -> PocketConfig:
        if self.num_candidates > 2 and self.mistake_share == 0:
            raise ValueError(
                f"num_candidates {self.num_candidates} needs a mistake_share above 0: prompts may have one bad answer"
            )
        return self


class PocketDataset:
    """The training side of the world, or with `held_out=True` the side that no training set ever shows.

    Rows are made when their kind is first asked for. Held-out demonstrations are all good and held-out labels all
    true, so what is measured on them is measured against the truth.
    """

    def __init__(self, config: PocketConfig, *, held_out: bool = False) -> None:
        self.config = config
        self._is_held_out = held_out
        size = config.num_held_out
        self.sizes: Mapping[str, int] = {
            "prompts": _thirds(size if held_out else config.num_prompts),
            "demonstrations": size if held_out else config.num_demonstrations,
            "rankings": size if held_out else config.num_rankings,
            "labelled": size if held_out else config.num_rankings,
            "stepwise": size if held_out else config.num_rankings,
            "texts": len(vocabulary_texts()) + (size if held_out else config.num_demonstrations),
        }

    def held_out(self) -> PocketDataset:
        """The held-out rows drawn with the same configuration."""
        return PocketDataset(self.config, held_out=True)

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        return self._endless("prompts", lambda: self._prompts, seed, start)

    def demonstrations(self, seed: int, start: int = 0) -> Iterator[Demonstration]:
        return self._endless("demonstrations", lambda: self._demonstrations, seed, start)

    def rankings(self, seed: int, start: int = 0) -> Iterator[Ranking]:
        return self._endless("rankings", lambda: self._rankings, seed, start)

    def labelled(self, seed: int, start: int = 0) -> Iterator[LabelledCompletion]:
        """One completion of each ranking, the best of it called good and any other bad."""
        return self._endless("labelled", lambda: self._labelled, seed, start)

    def stepwise(self, seed: int, start: int = 0) -> Iterator[SteppedCompletion]:
        """One completion of each ranking, word by word: right up to the first word that is not of the right answer."""
        return self._endless("stepwise", lambda: self._stepwise, seed, start)

    def texts(self, seed: int, start: int = 0) -> Iterator[str]:
        """Plain texts: every word of the world, and the demonstrations as question and answer on one line."""
        return self._endless("texts", lambda: self._texts, seed, start)

    def _endless(self, kind: str, rows: Callable[[], Sequence[Row]], seed: int, start: int) -> Iterator[Row]:
        size = self.sizes[kind]
        if not size:
            present = ", ".join(name for name, rows_of_kind in self.sizes.items() if rows_of_kind)
            option = "num_rankings" if kind in ("labelled", "stepwise") else f"num_{kind}"
            raise DataError(f"pocket data: {option} is 0, so there are no {kind}; there are {present}")
        return _epochs(rows(), random.Random(f"{seed} {kind}").getrandbits(32), start)

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self._is_held_out)

    def _rng(self, kind: str) -> random.Random:
        return random.Random(f"{self.config.seed} {kind} {self._is_held_out}")

    @cached_property
    def _prompts(self) -> list[Prompt]:
        rng = self._rng("prompts")
        per_axis = self.sizes["prompts"] // len(AXES)
        return [prompt for axis in AXES for prompt in self._sampler.distinct(axis, per_axis, rng)]

    @cached_property
    def _demonstrations(self) -> list[Demonstration]:
        rng = self._rng("demonstrations")
        return [self._demonstration(index, rng) for index in range(self.sizes["demonstrations"])]

    def _demonstration(self, index: int, rng: random.Random) -> Demonstration:
        prompt = self._sampler.draw(_LESSONS[index % len(_LESSONS)], rng)
        bad = not self._is_held_out and rng.random() < self.config.bad_share
        answer = bad_answer(prompt, rng) if bad else good_answer(prompt)
        question = prompt.last_user_text
        messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
        return Demonstration(id=f"pocket/{index}", messages=messages)  # type: ignore[arg-type]

    @cached_property
    def _rankings(self) -> list[Ranking]:
        rng = self._rng("rankings")
        return [self._ranking(index, rng) for index in range(self.sizes["rankings"])]

    def _ranking(self, index: int, rng: random.Random) -> Ranking:
        prompt = self._sampler.draw(_LESSONS[index % len(_LESSONS)], rng)
        completions = [good_answer(prompt)]
        while len(completions) < self.config.num_candidates:
            make = mistake if rng.random() < self.config.mistake_share else bad_answer
            candidate = make(prompt, rng)
            if candidate not in completions:
                completions.append(candidate)
        # The sort is stable and candidates come in random order: between equals the label is a coin flip.
        completions.sort(key=lambda text: -gold_score(prompt, text))
        if not self._is_held_out and rng.random() < self.config.label_noise:
            other = rng.randrange(1, len(completions))
            completions[0], completions[other] = completions[other], completions[0]
        return Ranking(prompt=prompt, completions=tuple(completions))

    @cached_property
    def _labelled(self) -> list[LabelledCompletion]:
        rng = self._rng("labelled")
        return [_judged(ranking, rng) for ranking in self._rankings]

    @cached_property
    def _stepwise(self) -> list[SteppedCompletion]:
        rng = self._rng("stepwise")
        return [_word_by_word(judged.prompt, judged.completion) for judged in (_judged(r, rng) for r in self._rankings)]

    @cached_property
    def _texts(self) -> list[str]:
        rows = self._demonstrations if self.sizes["demonstrations"] else []
        lines = (" ".join(message["content"] for message in row.messages or ()) for row in rows)
        return [*vocabulary_texts(), *lines]


def _judged(ranking: Ranking, rng: random.Random) -> LabelledCompletion:
    """Half the time the best, so that labels are balanced."""
    good = rng.random() < 0.5
    completion = ranking.completions[0] if good else rng.choice(ranking.completions[1:])
    return LabelledCompletion(prompt=ranking.prompt, completion=completion, label=good)


def _word_by_word(prompt: Prompt, completion: str) -> SteppedCompletion:
    words, right = completion.split(), str(prompt.metadata["answer"]).split()
    labels = tuple(words[: end + 1] == right[: end + 1] for end in range(len(words)))
    return SteppedCompletion(prompt=prompt, steps=tuple(words), labels=labels)


def _thirds(size: int) -> int:
    return size - size % len(AXES)


def _epochs(rows: Sequence[Row], seed: int, start: int) -> Iterator[Row]:
    """The rows again and again, each epoch in an order of its own; starts after `start` rows."""
    first, skip = divmod(start, len(rows))
    for epoch in count(first):
        order = random.Random(f"{seed} {epoch}").sample(range(len(rows)), len(rows))
        yield from (rows[i] for i in order[skip:])
        skip = 0
