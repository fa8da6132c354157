"""`countdown`: data with a known solution each, corrupted ones, and attempts to have text run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

NUMS, TARGET = [15, 10, 42], 780


def scores_of(built: Callable[..., Any], rollout: Callable[..., Any], texts: list[str], **options: Any) -> list[float]:
    reward = built("countdown", **options)
    return [score.value for score in reward([rollout(text, nums=NUMS, target=TARGET) for text in texts])]


def test_known_solutions_are_right_and_corrupted_ones_wrong(
    rows: Callable[..., Any], rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    data, reward = rows("synthetic_countdown"), built("countdown")
    for form in ("<answer>{}</answer>", "<answer> {} = {t} </answer>", "Let me see.\nSo {} = {t}.", "{t} = {}"):
        right = [rollout(form.format(row["solution"], t=row["target"]), **row) for row in data]
        assert {score.value for score in reward(right)} == {1.0}
    corrupted = []
    for number, row in enumerate(data):
        rng, solution = random.Random(number), row["solution"]
        first = str(row["nums"][0])
        off = {**row, "target": row["target"] + 1}
        kinds = [
            (solution.replace(first, str(int(first) + 100), 1), row),  # a number nobody gave
            (f"{solution} + {first} - {first}", row),  # one used too often
            (str(row["target"]), row),  # none used
            (solution, off),
            (f"({solution}", row),
        ]
        text, columns = rng.choice(kinds)
        corrupted.append(rollout(f"<answer>{text}</answer>", **columns))
    assert {score.value for score in reward(corrupted)} == {0.0}


@pytest.mark.parametrize(
    "text",
    [
        "<answer>15 * (10 + 42)</answer>",
        "<answer>\n(42+10)*15\n</answer>",
        "<answer>15 × (10 + 42)</answer>",
        "<answer>15 * [10 + 42] = 780</answer>",
        "<answer>1</answer> wait: <answer>15*(10+42)</answer>",
        "<think>15 * 10 = 150</think><answer>15*(10+42)</answer>",
        "First 10 + 42 = 52.\nSo 15 * (10 + 42) = 15 * 52 = 780.",
        "- 15 * (10 + 42) = 780",
        "Steps:\n  - 15 * (10 + 42) = 780",
        "The answer is -15 * (-10 - 42) = 780.",
        "1. 15 * (10 + 42) = 780",
        "**15 * (10 + 42) = 780**",
        "**15 * (10 + 42)** = 780",
        "Answer = 15 * (10 + 42)",
        "<answer>-15 * (-10 - 42)</answer>",
    ],
)
def test_ways_to_write_a_solution(text: str, rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    assert scores_of(built, rollout, [text]) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "780",
        "<answer>780</answer>",
        "<answer>15 * 52</answer>",
        "<answer>15 * (10 + 42) * 15 / 15</answer>",
        "<answer>15 * (10 + 42</answer> 15 * (10 + 42) = 780",
        "15 * (10 + 42)",
        "<think><answer>15 * (10 + 42)</answer>",
        "<answer>15 * 10 + 42 = 780</answer>",
        "<answer>15 // (10 + 42)</answer>",
        "<answer>15 ** (10 + 42)</answer>",
        "<answer>15 / (10 - 10) * 42</answer>",
        "<answer>15 * (10 + 42) if True else 1</answer>",
        "<answer>__import__('os').system('touch ran')</answer>",
        "<answer>exec('15') or 15*(10+42)</answer>",
        "<answer>(lambda: 780)()</answer>",
        "<answer>1_5 * (10 + 42)</answer>",
        "<answer>0xF * (10 + 42)</answer>",
        "<answer>15.0 * (10 + 42)</answer>",
        "<answer>1e1 + 770</answer>",
        "<answer>１５ * (１０ + ４２)</answer>",
        "<answer>١٥ * (١٠ + ٤٢)</answer>",
        "<answer>15 (10 + 42)</answer>",
        "<answer>9**9**9**9**9</answer>",
        "<answer>" + "9*" * 100_000 + "9</answer>",
        "<answer>" + "(" * 100_000 + "15" + ")" * 100_000 + "</answer>",
        "<answer>" + "(" * 140 + "15" + ")" * 140 + "</answer>",
        "<answer>" + "-" * 290 + "15</answer>",
        "<answer>15*(10+42)\x00</answer>",
        "<answer>15*(10+42)\n#</answer>",
        "=" * 200_000,
        "1 =" * 100_000,
        "<answer>" * 100_000,
    ],
)
def test_wrong_and_hostile_answers_are_wrong_at_once(
    text: str, rollout: Callable[..., Any], built: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    assert scores_of(built, rollout, [text]) == [0.0]
    assert scores_of(built, rollout, [text], use_all=False) == [0.0]
    assert time.process_time() - began < 1
    assert not list(tmp_path.iterdir())


def test_numbers_may_be_left_out_where_that_is_allowed(rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    row = {"nums": [5, 5, 9], "target": 10}
    texts = ["<answer>5 + 5</answer>", "<answer>5 + 5 + 9 - 9</answer>", "<answer>5 * (5 + 9 - 9) / 5</answer>"]
    for use_all, expected in ((True, [0.0, 0.0, 0.0]), (False, [1.0, 0.0, 0.0])):
        scores = built("countdown", use_all=use_all)([rollout(text, **row) for text in texts])
        assert [score.value for score in scores] == expected


def test_arithmetic_is_exact(rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    row = rollout("<answer>(1 / 3) * 3 * 10</answer>", nums=[1, 3, 3, 10], target=10)
    near = rollout("<answer>10000000000000000 + 1 - 10000000000000000</answer>", nums=[10**16, 1, 10**16], target=0)
    assert [score.value for score in built("countdown")([row, near])] == [1.0, 0.0]


def test_a_wrong_sum_is_worth_what_was_said(rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    texts = ["<answer>15 + 10 + 42</answer>", "<answer>fifteen</answer>", "<answer>15 * (10 + 42)</answer>"]
    assert scores_of(built, rollout, texts, format_score=0.1) == [0.1, 0.0, 1.0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"nums": [1, "2"], "target": 3}, "whole numbers"),
        ({"nums": "[1, 2]", "target": 3}, "list of whole numbers"),
        ({"nums": [1, 2], "target": "3"}, "column 'target' must hold whole numbers, given '3'"),
        ({"nums": [1.5], "target": 3}, "whole numbers"),
        ({"nums": 7, "target": 3}, "list of whole numbers"),
    ],
)
def test_columns_that_hold_something_else_are_an_error_of_their_row(
    columns: dict[str, Any], said: str, rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    (score,) = built("countdown")([rollout("<answer>1 + 2</answer>", **columns)])
    assert score.value is None
    assert said in score.error


def test_a_row_without_numbers_is_not_spoken_of(rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    reward = built("countdown", numbers="given", target="goal")
    assert reward.columns == ("given", "goal")
    skipped, right = reward([rollout("1 = 1"), rollout("<answer>1 + 2</answer>", given=(1, 2.0), goal=3)])
    assert (skipped.value, skipped.error, right.value) == (None, None, 1.0)
