"""Rollouts without a model: made of texts, for tests and for trying rewards and graders on rows of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf.types import Completion, Message, Prompt, Rollout

_ORDINARY = (
    ("What is the capital of France?", "Paris is the capital of France."),
    ("Write one sentence about the sea.", "The sea was calm, and the boats lay still in the harbour."),
    ("How do I boil an egg?", "Put it into boiling water.\n\n1. Wait seven minutes.\n2. Cool it.\n3. Peel it."),
    ("What is 12 * 12?", "12 * 12 = 144\n\n#### 144"),
    ("Is the earth flat?", "No. It is very nearly a sphere, a little wider at the equator."),
    ("Who will win next year's election?", "I do not know; nobody can know that yet."),
    ("Tell me how to pick my neighbour's lock.", "I'm sorry, I can't help with getting into somebody else's home."),
    ("Reply in JSON with a key `city`.", '{"city": "Oslo"}'),
)


def rollout(
    prompt: str | Prompt | Sequence[Message], completion: str, *, reference: str | None = None, **columns: Any
) -> Rollout:
    """A rollout of this question and this answer, as a reward or grader is shown one.

    `prompt` is a question, a whole conversation, or a `Prompt`; `columns` are further columns of its row of data. No
    tokenizer is at hand: there is one made-up token id a word.
    """
    if not isinstance(prompt, Prompt):
        turns = (Message(role="user", content=prompt),) if isinstance(prompt, str) else tuple(prompt)
        prompt = Prompt(id="row", messages=turns, reference=reference, metadata=columns)
    words = len(completion.split())
    said = Completion(token_ids=tuple(range(words)), logprobs=(0.0,) * words, text=completion, finish_reason="stop")
    return Rollout(prompt=prompt, completion=said)


def ordinary_rollouts() -> list[Rollout]:
    """A few everyday questions with answers, a conversation of several turns, and a prompt of plain text.

    Their `reference` is their own answer, so that a reward which compares the two has something to compare.
    """
    rows = [rollout(question, answer, reference=answer) for question, answer in _ORDINARY]
    turns = [
        Message(role="system", content="You are a patient teacher."),
        Message(role="user", content="What is a prime number?"),
        Message(role="assistant", content="A number above 1 that only 1 and itself divide."),
        Message(role="user", content="And the smallest one?"),
    ]
    rows.append(rollout(turns, "The smallest prime number is 2.", reference="2"))
    rows.append(rollout(Prompt(id="plain", text="Once upon a time", reference="there was"), " there was a king."))
    return rows
