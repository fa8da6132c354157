"""Prompts are dealt so that engines have as many tokens to read and write, and always in the same way."""

from __future__ import annotations

import random

import pytest

from rlhf.types import Prompt, Sampling

pytest.importorskip("ray")


def prompts(*lengths: int) -> list[Prompt]:
    return [Prompt(id=str(i), text="", token_ids=(5,) * length) for i, length in enumerate(lengths)]


def test_by_hand() -> None:
    from rlhf.runtime.rollout_group import dealt

    few = Sampling(max_tokens=1)
    assert dealt(prompts(9, 1, 1, 1, 8), few, 2) == [(0, 2), (1, 3, 4)]
    assert dealt(prompts(2, 2, 2, 2), few, 2) == [(0, 2), (1, 3)]
    assert dealt(prompts(1, 3), few, 4) == [(1,), (0,)]
    assert dealt([], few, 2) == []


def test_what_is_to_be_written_counts_for_every_sample() -> None:
    from rlhf.runtime.rollout_group import dealt

    lengths = (50, 1, 1, 1, 1, 1)
    assert dealt(prompts(*lengths), Sampling(max_tokens=1), 2)[0] == (0,)
    assert len(dealt(prompts(*lengths), Sampling(max_tokens=100, num_samples=8), 2)[0]) == 3


def test_every_prompt_once_and_loads_alike() -> None:
    from rlhf.runtime.rollout_group import dealt

    lengths = [random.Random(0).randint(1, 500) for _ in range(101)]
    hands = dealt(prompts(*lengths), Sampling(max_tokens=16), 4)
    assert sorted(place for hand in hands for place in hand) == list(range(101))
    loads = [sum(lengths[place] + 16 for place in hand) for hand in hands]
    assert max(loads) - min(loads) <= 16 + min(lengths)
