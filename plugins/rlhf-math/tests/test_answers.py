"""Where an answer stands: boxes, tags, marks, and what was thought before."""

from __future__ import annotations

import time

import pytest

from rlhf_math.answers import after_mark, after_thinking, last_boxed, last_tagged


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{1} or rather \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} done", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed {3}", "3"),
        (r"\fbox{4}", "4"),
        (r"\boxed{\boxed{6}}", "6"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \mid x > 0 \right\}}", r"\left\{ x \mid x > 0 \right\}"),
        (r"\boxed{}", ""),
        (r"\boxed{1} and \boxed{\frac{1}{2}", None),  # cut off: the last answer was never given
        (r"boxed{1}", None),
        ("", None),
    ],
)
def test_the_last_box_with_balanced_braces(text: str, held: str | None) -> None:
    assert last_boxed(text) == held


def test_tags_marks_and_thinking() -> None:
    assert last_tagged("<answer>1</answer> no: <answer>\n2 </answer>") == "2"
    assert last_tagged("</answer> <answer> 1") is None
    assert after_mark("#### 1\nno\n#### 72 \nand more") == "72"
    assert after_mark("72") is None
    assert after_thinking("<think>#### 1</think>#### 2") == "#### 2"
    assert after_thinking("#### 1</think>#### 2") == "#### 2"  # the template wrote the opening tag
    assert after_thinking("<think>#### 1") == ""


@pytest.mark.parametrize(
    "text", ["<answer>" * 50_000, "</answer>" + "<answer>" * 50_000, r"\boxed{" * 50_000, "{" * 400_000]
)
def test_hostile_texts_take_no_time(text: str) -> None:
    began = time.process_time()
    last_boxed(text)
    last_tagged(text)
    after_thinking(text)
    assert time.process_time() - began < 1
