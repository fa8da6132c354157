"""Completions of the embedded world: the right one, and the ways to get it wrong.

The same faults fill the bad share of the demonstrations and the lower places of the rankings, so a reward model is
asked about what a policy taught on these demonstrations says. Rankings add the mistakes such a policy makes by itself:
slips (a wrong, missing or doubled word) and stray answers, right for another kind of question. Without the latter a
reward model takes a sentence it liked elsewhere for a good answer everywhere, and a policy soon finds that out.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from rlhf.pocket.vocabulary import (
    FACT_ANSWER,
    FORMATS,
    NOUNS,
    NUMBERS,
    REFUSAL,
    TOOL_ANSWER,
    TOOLS,
    UNKNOWN,
    VALUES,
)
from rlhf.types import Prompt

WRAPPERS = {mark for _, before, after in FORMATS.values() for mark in (before, after)}


def good_answer(prompt: Prompt) -> str:
    """The one right completion."""
    return str(prompt.metadata["answer"])


def bad_answer(prompt: Prompt, rng: random.Random) -> str:
    """A completion that is wrong in a way of this prompt's axis: bad behaviour, as some teachers show it."""
    return _until_wrong(prompt, rng, _FAULTS[str(prompt.metadata["axis"])])


def mistake(prompt: Prompt, rng: random.Random) -> str:
    """A completion that is wrong as a policy's own samples are: a slip, or an answer to another kind of question."""
    return _until_wrong(prompt, rng, _slip if rng.random() < 0.5 else lambda _prompt, rng: _stray(rng))


def _slip(prompt: Prompt, rng: random.Random) -> str:
    source = good_answer(prompt) if rng.random() < 0.75 else bad_answer(prompt, rng)
    return " ".join(_with_slip(source.split(), rng))


def _stray(rng: random.Random) -> str:
    fact = FACT_ANSWER.format(rng.choice(VALUES[rng.choice(tuple(VALUES))]))
    tool = TOOL_ANSWER.format(rng.choice(tuple(TOOLS.values())))
    words = " ".join(rng.sample(NOUNS, rng.randint(1, 3)))
    return rng.choice((UNKNOWN, REFUSAL, fact, tool, words, rng.choice(NUMBERS)))


def _until_wrong(prompt: Prompt, rng: random.Random, make: Callable[[Prompt, random.Random], str]) -> str:
    while True:
        text = make(prompt, rng)
        if text and text != good_answer(prompt):
            return text


def _with_slip(words: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(words))
    kind = rng.random()
    if kind < 0.5:
        return [*words[:at], _neighbour(words[at], rng), *words[at + 1 :]]
    if kind < 0.75:
        return words[:at] + words[at + 1 :]
    return words[: at + 1] + words[at:]


def _neighbour(word: str, rng: random.Random) -> str:
    """A word of the same kind, where the kind is clear."""
    kinds = (NOUNS, NUMBERS, *VALUES.values(), tuple(TOOLS.values()), tuple(sorted(WRAPPERS)))
    return rng.choice(next((kind for kind in kinds if word in kind), NOUNS))


def _unhelpful(prompt: Prompt, rng: random.Random) -> str:
    """Instructions: the wrong words, the wrong order, the wrong format, or no answer at all."""
    content, answer = str(prompt.metadata["content"]).split(), good_answer(prompt).split()
    kind = rng.random()
    if kind < 0.2:
        return rng.choice((UNKNOWN, REFUSAL))
    if kind < 0.4 and len(answer) > len(content):
        return " ".join(content)
    if kind < 0.6 and len(content) > 1:
        rng.shuffle(content)
        return " ".join(content)
    wrong = [_neighbour(word, rng) if rng.random() < 0.5 else word for word in answer]
    return " ".join(wrong)


def _dishonest(prompt: Prompt, rng: random.Random) -> str:
    """Facts: invented or false ones, and not knowing what was taught."""
    if prompt.metadata["task"] == "known" and rng.random() < 0.5:
        return UNKNOWN
    attribute = next(word for word in prompt.last_user_text.split() if word in VALUES)
    return FACT_ANSWER.format(rng.choice(VALUES[attribute]))


def _harmful(prompt: Prompt, rng: random.Random) -> str:
    """Requests: compliance with harm, refusal of what harms nobody, and now and then the wrong tool."""
    verb = next(word for word in prompt.last_user_text.split() if word in TOOLS)
    if prompt.metadata["task"] == "harmful":
        return TOOL_ANSWER.format(TOOLS[verb])
    return REFUSAL if rng.random() < 0.8 else TOOL_ANSWER.format(rng.choice(tuple(TOOLS.values())))


_FAULTS: dict[str, Callable[[Prompt, random.Random], str]] = {
    "helpful": _unhelpful,
    "honest": _dishonest,
    "harmless": _harmful,
}
