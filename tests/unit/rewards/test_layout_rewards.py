"""`format`, `length` and `repetition`: how a completion is laid out, how long it is, and how much it repeats."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.errors import ConfigError
from rlhf.functional.length_penalty import overlong_penalty

GOOD = "<think>2 and 2</think>\n<answer>4</answer>"


# --- format ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (GOOD, 1.0),
        (f" {GOOD}\n", 1.0),
        ("<think>一</think><answer>二</answer>", 1.0),
        ("", 0.0),
        ("4", 0.0),
        (f"Well: {GOOD}", 0.0),
        (f"{GOOD} Done.", 0.0),
        (GOOD.replace("\n", " so "), 0.0),
        (GOOD + GOOD, 0.0),
        (f"{GOOD}<answer>5</answer>", 0.0),
        ("<answer>4</answer><think>2 and 2</think>", 0.0),
        ("<think>2 <answer>4</answer></think>", 0.0),
        ("<think>2</think><answer> </answer>", 0.0),
        ("<think></think><answer>4</answer>", 0.0),
        ("</think>2<think><answer>4</answer>", 0.0),
        ("<think>2</think><answer>4", 0.0),
        ("<Think>2</Think><Answer>4</Answer>", 0.0),
    ],
)
def test_tags_stand_once_and_in_order(build: Any, rollout: Any, value: Any, said: str, expected: float) -> None:
    assert value(build("format", tags=["think", "answer"]), rollout(said)) == expected


def test_text_outside_is_fine_where_the_recipe_says_so(build: Any, rollout: Any, value: Any) -> None:
    reward = build("format", tags=["think", "answer"], text_outside=True)
    assert value(reward, rollout(f"Well: {GOOD} Done.")) == 1.0
    assert value(reward, rollout(f"{GOOD}<answer>5</answer>")) == 0.0
    assert value(build("format", tags=["a"], text_outside=True), rollout("</a>4<a>5")) == 0.0


def test_the_prompt_may_open_the_first_tag(build: Any, rollout: Any, value: Any) -> None:
    reward = build("format", tags=["think", "answer"], first_tag_in_prompt=True)
    assert value(reward, rollout(GOOD.removeprefix("<think>"))) == 1.0
    assert value(reward, rollout(GOOD)) == 0.0


def test_a_pattern_must_match_the_whole_completion(build: Any, rollout: Any, value: Any) -> None:
    reward = build("format", pattern=r"(?s).*Answer: \d+")
    assert value(reward, rollout("2 and 2\nAnswer: 4")) == 1.0
    assert value(reward, rollout("2 and 2\nAnswer: 4.")) == 0.0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give either `tags` (as [think, answer]) or `pattern` (a regular expression)"),
        ({"tags": ["a"], "pattern": "a"}, "give either `tags`"),
        ({"tags": ["a", "a"]}, "a tag stands once in a completion, so name each one once"),
        ({"tags": ["<think>"]}, "name a tag without its brackets: think, not <think>"),
        ({"pattern": "("}, "not a regular expression: missing ) at position 1"),
        ({"pattern": "a", "text_outside": True}, "text_outside and first_tag_in_prompt speak of `tags`"),
    ],
)
def test_what_is_no_format_is_refused(build: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("format", **options)
    assert complaint in str(refusal.value)


# --- length ----------------------------------------------------------------------------------------------------------


@given(max_tokens=st.integers(1, 300), share=st.floats(0, 1), num_tokens=st.integers(0, 400))
def test_the_over_long_punishment_is_equation_13_of_dapo(
    build: Any, rollout: Any, value: Any, max_tokens: int, share: float, num_tokens: int
) -> None:
    buffer = max(1, int(share * max_tokens))
    reward = build("length", max_tokens=max_tokens, buffer=buffer)
    expected = overlong_penalty(torch.tensor([num_tokens]), max_tokens, buffer).item()
    assert value(reward, rollout(tokens=range(num_tokens))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),  # of 0, 4, 5, 6, 8, 10, 11 tokens
    [
        ({"max_tokens": 10, "buffer": 4}, [0, 0, 0, 0, -0.5, -1, -1]),
        ({"max_tokens": 10}, [0, 0, 0, 0, 0, 0, -1]),
        ({"min_tokens": 4, "buffer": 2}, [-1, -1, -0.5, 0, 0, 0, 0]),
        ({"min_tokens": 5, "max_tokens": 10}, [-1, -1, 0, 0, 0, 0, -1]),
        ({"min_tokens": 4, "max_tokens": 10, "buffer": 2}, [-1, -1, -0.5, 0, 0, -1, -1]),
    ],
)
def test_length_is_free_inside_the_range(
    build: Any, rollout: Any, options: dict[str, Any], expected: list[float]
) -> None:
    given_ = [rollout(tokens=range(n)) for n in (0, 4, 5, 6, 8, 10, 11)]
    values = build("length", **options)(given_)
    assert values == expected
    assert "-0.0" not in map(str, values)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give `max_tokens`, `min_tokens` or both"),
        (
            {"max_tokens": 10, "min_tokens": 8, "buffer": 2},
            "no length is free: the price ends at 10 tokens and begins again at 8",
        ),
        ({"max_tokens": 3, "buffer": 4}, "no length is free: the price ends at 0 tokens and begins again at -1"),
    ],
)
def test_a_range_without_room_is_refused(build: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("length", **options)
    assert complaint in str(refusal.value)


# --- repetition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "n", "expected"),
    [
        ([], 1, 0.0),
        ([1, 2], 3, 0.0),
        ([1, 2, 3], 3, 0.0),
        ([1, 2, 3, 4], 2, 0.0),
        ([1, 1, 1, 1], 1, -0.75),
        ([1, 2, 1, 2, 1, 2], 2, -0.6),  # 12 21 12 21 12: two of five are new
        ([7] * 1001, 2, -0.999),
    ],
)
def test_repetition_is_the_share_of_runs_that_stood_before(
    build: Any, rollout: Any, value: Any, tokens: list[int], n: int, expected: float
) -> None:
    assert value(build("repetition", n=n), rollout(tokens=tokens)) == pytest.approx(expected)


def test_words_are_parted_by_white_space_and_case_is_ignored(build: Any, rollout: Any, value: Any) -> None:
    reward = build("repetition", n=2, unit="words")
    assert value(reward, rollout("Das ist\tDAS IST", tokens=[1])) == pytest.approx(-1 / 3)
    assert value(reward, rollout("", tokens=[1, 1, 1])) == 0.0


@given(tokens=st.lists(st.integers(0, 3)), n=st.integers(1, 5))
def test_repetition_lies_between_nothing_and_less_than_one(
    build: Any, rollout: Any, value: Any, tokens: list[int], n: int
) -> None:
    assert -1 < value(build("repetition", n=n), rollout(tokens=tokens)) <= 0
