"""`math_verify`: rates on real data, the forms of answers, and answers that hang or crash the checker."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def patient(built: Callable[..., Any]) -> Iterator[Any]:
    """With the time a run gives it."""
    reward = built("math_verify")
    yield reward
    reward.pool.close()


def rate(reward: Any, rollouts: list[Any]) -> float:
    scores = reward(rollouts)
    assert [score.error for score in scores if score.error] == []
    return float(sum(score.value for score in scores) / len(scores))


@pytest.mark.timeout(600)
def test_gold_solutions_of_math_are_right_and_those_of_other_problems_wrong(
    rows: Callable[..., Any], rollout: Callable[..., Any], patient: Any
) -> None:
    gold = [row["solution"] for row in rows("math_test_minus_500")]
    assert rate(patient, [rollout(text, text) for text in gold]) == 1.0
    others = list(itertools.pairwise(gold))[:400]
    assert rate(patient, [rollout(other, text) for text, other in others]) < 0.02  # a few share their answer


@pytest.mark.timeout(600)
def test_ground_truths_of_deepmath(rows: Callable[..., Any], rollout: Callable[..., Any], patient: Any) -> None:
    gold = [row["ground_truth"] for row in rows("deepmath_rl")]
    assert rate(patient, [rollout(rf"Thus \boxed{{{text}}}.", text) for text in gold]) == 1.0
    assert rate(patient, [rollout(rf"Thus \boxed{{{text}+1}}.", text) for text in gold[:200]]) < 0.05  # oo + 1 is oo


def test_letters_of_aqua_rat_and_numbers_of_svamp_and_gsm8k(
    rows: Callable[..., Any], rollout: Callable[..., Any], patient: Any
) -> None:
    letters = [row["correct"] for row in rows("aqua_rat")]
    other = dict(zip("ABCDE", "BCDEA", strict=True))
    for form in (r"\boxed{%s}", r"\boxed{\text{(%s)}}", "The answer is $%s$."):
        assert rate(patient, [rollout(form % letter, letter) for letter in letters]) == 1.0
        assert rate(patient, [rollout(form % other[letter], letter) for letter in letters]) == 0.0
    numbers = [row["Answer"] for row in rows("svamp")]
    assert rate(patient, [rollout(rf"\boxed{{{number:,.0f}}}", str(number)) for number in numbers]) == 1.0
    assert rate(patient, [rollout(rf"\boxed{{{number + 1:,.0f}}}", str(number)) for number in numbers]) == 0.0
    sums = [row["answer"] for row in rows("gsm8k_train")[:500]]
    assert rate(patient, [rollout(text, text) for text in sums]) == 1.0


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (r"\boxed{0.5}", r"\frac{1}{2}"),
        (r"\boxed{2^{10}}", "1024"),
        (r"\boxed{(x+1)^2}", "x^2+2x+1"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{\{2, 1\}}", r"\{1, 2\}"),
        (r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1,000}", "1000.0"),
        (r"\boxed{72}", "She sold 72.\n#### 72"),
        (r"\boxed{72}", r"Thus \boxed{71}, no, \boxed{72}."),
        (r"\boxed{71} and then \boxed{72}", "72"),
        (r"<think>\boxed{71}</think> \boxed{72}", "72"),
        (r"<answer>\frac{144}{2}</answer>", "72"),
        ("#### 72", "72"),
        ("The final answer is $72$. I hope it is correct.", "72"),
        ("So the answer is 72.", "72"),
        (r"\boxed{\aleph_0}", r"\aleph_0"),
    ],
)
def test_forms_of_the_right_answer(text: str, reference: str, rollout: Callable[..., Any], verified: Any) -> None:
    (score,) = verified([rollout(text, reference)])
    assert (score.value, score.error) == (1.0, None)
    assert score.parts == {"answered": 1.0, "stopped": 0.0, "as_text": float("aleph" in reference)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "So we get 72",  # not said to be the answer
        r"\boxed{71} is what I take, and not 72",
        r"\boxed{72} no: \boxed{71}",
        r"\boxed{71, 72}",
        r"\boxed{\pm 72}",
        r"\boxed{72",
        r"<think>\boxed{72}",
        r"<answer>71</answer> The answer is 72.",
        r"\boxed{}",
        r"\boxed{72x}",
        r"\boxed{nan}",
        r"\boxed{٧٢}",
        r"\boxed{７２}",
        "The answer is ٧٢",
        "\x00\ud800",
    ],
)
def test_other_answers_are_wrong(text: str, rollout: Callable[..., Any], verified: Any) -> None:
    (score,) = verified([rollout(text, "72")])
    assert (score.value, score.error, score.parts["stopped"]) == (0.0, None, 0.0)


HOSTILE = {
    "tower": r"\boxed{9^{9^{9^{9}}}}",
    "tower in words": "The answer is 9^9^9^9^9",
    "power": r"\boxed{2^{2^{33}}}",
    "factorial": r"\boxed{100000000!}",
    "factorial of factorial": r"\boxed{((10^{9})!)!}",
    "binomial": r"\boxed{\binom{10^9}{5 \cdot 10^8}}",
    "polynomial": r"\boxed{(x+1)^{100000}}",
    "integral": r"\boxed{\int_0^1 x^{x^{x^x}} \sin(e^{x^2}) dx}",
    "sum": r"\boxed{\sum_{n=1}^{10^{12}} \frac{1}{n^3}}",
    "nested braces": r"\boxed{" + "{" * 900 + "72" + "}" * 900 + "}",
    "nested brackets": r"\boxed{" + "(" * 900 + "72" + ")" * 900 + "}",
    "nested roots": r"\boxed{" + r"\sqrt{" * 200 + "2" + "}" * 200 + "}",
    "nested brackets in words": "The answer is " + "(1+" * 300 + "1" + ")" * 300,
    "long": r"\boxed{" + "(" * 500_000 + "72" + ")" * 500_000 + "}",
    "letters": r"\boxed{" + "x" * 1900 + "}",
    "list": r"\boxed{" + "1," * 900 + "}",
    "words": "the answer is $" * 50_000,
    "code": r"\boxed{__import__('os').system('touch ran')}",
    "code in words": "The answer is 72-__import__('os').system('touch ran')+1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_wrong_within_their_time(
    name: str, rollout: Callable[..., Any], verified: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad, good = verified([rollout(HOSTILE[name], "73"), rollout(r"\boxed{73}", "73")])
    assert (bad.value, bad.error) == (0.0, None)
    assert good.value == 1.0
    assert not list(tmp_path.iterdir())


def test_what_ran_out_of_time_says_so(rollout: Callable[..., Any], verified: Any) -> None:
    (score,) = verified([rollout(HOSTILE["tower"], "72")])
    assert score.parts == {"answered": 1.0, "stopped": 1.0, "as_text": 0.0}


def test_time_is_processor_time(rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    reward = built("math_verify", seconds=0.2, workers=1)
    reward([rollout(r"\boxed{1}", "1")])
    began = time.monotonic()
    (score,) = reward([rollout(HOSTILE["tower"], "1")])
    assert score.parts["stopped"] == 1.0
    assert time.monotonic() - began < 0.2 * 12  # far more of the clock where others use the machine
    reward.pool.close()


def test_a_reference_beyond_the_library_is_compared_as_text(rollout: Callable[..., Any], verified: Any) -> None:
    texts = [r"\boxed{9^{9^{9^9}}}", r"\boxed{9^{9^{9^{9}}}+1}", "The answer is 9"]
    scores = verified([rollout(text, "9^{9^{9^9}}") for text in texts])
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]
    assert {score.parts["as_text"] for score in scores} == {1.0}


@pytest.mark.parametrize("reference", ["", "  ", r"\boxed{72", r"\boxed{}", "####", r"\frac{1}{"])
def test_a_malformed_reference_is_an_error_of_its_row(
    reference: str, rollout: Callable[..., Any], verified: Any
) -> None:
    bad, good = verified([rollout(r"\boxed{72}", reference), rollout(r"\boxed{72}", "72")])
    assert bad.value is None
    assert bad.error.startswith("the reference ")
    assert good.value == 1.0


def test_columns_boxes_only_and_rows_without_a_reference(
    rollout: Callable[..., Any], built: Callable[..., Any]
) -> None:
    reward = built("math_verify", column="gold", boxed_only=True)
    assert reward.columns == ("gold",)
    texts = [r"\boxed{72}", "The answer is 72", "<answer>72</answer>", "#### 72"]
    scores = reward([rollout(text, "71", gold=72) for text in texts])
    assert [score.value for score in scores] == [1.0, 0.0, 0.0, 0.0]
    (skipped,) = reward([rollout(r"\boxed{72}", "72")])
    assert (skipped.value, skipped.error) == (None, None)
    assert reward([]) == []
    reward.pool.close()


def test_rows_are_judged_one_by_one(rollout: Callable[..., Any], built: Callable[..., Any]) -> None:
    verified = built("math_verify", seconds=0.5)
    batch = [rollout(text, "72") for text in (r"\boxed{72}", HOSTILE["tower"], "", r"\boxed{71}", r"\boxed{144/2}")]
    together = verified(batch)
    assert [verified([row])[0] for row in batch] == together
    assert verified(batch[::-1]) == together[::-1]
    verified.pool.close()
