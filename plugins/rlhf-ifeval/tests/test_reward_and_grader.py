"""The reward `ifeval` and the grader `ifeval_helpful`: what they make of verdicts, and of rows they cannot judge."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from rlhf.protocols import Parts
from rlhf.types import Completion, Prompt, Rollout, Score
from rlhf_ifeval import registration
from rlhf_ifeval.checked import CheckConfig
from rlhf_ifeval.grader import IfevalHelpfulGrader
from rlhf_ifeval.reward import IfevalReward

NO_PARTS = cast("Parts", SimpleNamespace())
THREE = {
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation", "keywords:existence"],
    "kwargs": [{}, {}, {"keywords": ["war"]}],
}


def rollout(text: str, metadata: Mapping[str, Any]) -> Rollout:
    completion = Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop")
    return Rollout(prompt=Prompt(id="7", text="?", metadata=metadata), completion=completion)


def reward(**options: Any) -> IfevalReward:
    return IfevalReward(CheckConfig(**options), NO_PARTS)


def grader(**options: Any) -> IfevalHelpfulGrader:
    return IfevalHelpfulGrader(CheckConfig(**options), NO_PARTS)


def test_a_response_is_worth_the_share_it_follows() -> None:
    scores = reward()([rollout('"no war"', THREE), rollout('"war, war"', THREE), rollout("a, b", THREE)])
    assert [score.value for score in scores] == [1.0, pytest.approx(2 / 3), 0.0]
    assert [score.parts for score in scores] == [
        {"share": 1.0, "all": 1.0},
        {"share": pytest.approx(2 / 3), "all": 0.0},
        {"share": 0.0, "all": 0.0},
    ]


def test_all_or_nothing() -> None:
    scores = reward(credit="all")([rollout('"no war"', THREE), rollout('"war, war"', THREE)])
    assert [score.value for score in scores] == [1.0, 0.0]
    assert scores[1].parts["share"] == pytest.approx(2 / 3)


def test_loose() -> None:
    text = 'Sure, here it is:\n"no war"'
    strict, loose = (reward(verdict=verdict)([rollout(text, THREE)])[0].value for verdict in ("strict", "loose"))
    assert (strict, loose) == (pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize("metadata", [{}, {"instruction_id_list": None, "kwargs": None}, {"instruction_id_list": []}])
def test_no_instructions_is_no_reward_and_not_a_full_one(metadata: dict[str, Any]) -> None:
    assert reward(credit="all")([rollout("anything", metadata)]) == [Score()]


def test_a_row_that_cannot_be_read_is_an_error_of_its_own() -> None:
    bad = {"instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]}
    good, failed = reward()([rollout('"no war"', THREE), rollout("a", bad)])
    assert good.value == 1.0
    assert failed.value is None
    assert failed.error is not None
    assert "'punctuation:no_coma'" in failed.error


def test_a_blank_response_is_worth_nothing() -> None:
    assert reward()([rollout("", THREE)])[0].value == 0.0


def test_rows_are_judged_one_by_one() -> None:
    rows = [rollout(text, THREE) for text in ('"no war"', "", "a, b", '"war, war"')]
    one_by_one = [score for row in rows for score in reward()([row])]
    assert reward()(rows) == one_by_one
    assert reward()(rows[::-1]) == one_by_one[::-1]
    assert reward()([]) == []


def test_the_rationale_names_what_was_not_followed() -> None:
    kept, missed = grader().grade([rollout('"no war"', THREE), rollout('"a, b"', THREE)])
    assert (kept.axis, kept.score, kept.error) == ("helpful", 1.0, None)
    assert kept.rationale == "3 of 3 instructions followed"
    assert missed.score == pytest.approx(1 / 3)
    told = "1 of 3 instructions followed; not followed: punctuation:no_comma; keywords:existence (keywords=['war'])"
    assert missed.rationale == told


def test_a_long_value_is_cut_in_the_rationale() -> None:
    row = {"instruction_id_list": ["combination:repeat_prompt"], "kwargs": [{"prompt_to_repeat": "x" * 5000}]}
    (grade,) = grader(credit="all").grade([rollout("no", row)])
    assert grade.score == 0.0
    assert len(grade.rationale) < 200


def test_what_cannot_be_graded_is_an_error() -> None:
    bad = {"instruction_id_list": ["startend:quotation"], "kwargs": []}
    failed, empty = grader().grade([rollout("a", bad), rollout("a", {})])
    assert (failed.score, empty.score) == (None, None)
    assert failed.error == "kwargs has 0 entries for 1 instruction ids; give {} for none"
    assert empty.error is None  # it does not apply


@pytest.mark.parametrize("options", [{"verdict": "lose"}, {"credit": "half"}, {"verdicts": "strict"}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CheckConfig(**options)


def test_both_are_registered_and_name_their_columns() -> None:
    found: dict[str, tuple[Any, Any]] = {}

    def register(name: str, factory: Any, *, config: Any = None) -> None:
        found[name] = (factory, config)

    registration.register_rewards(register)
    registration.register_graders(register)
    assert found == {"ifeval": (IfevalReward, CheckConfig), "ifeval_helpful": (IfevalHelpfulGrader, CheckConfig)}
    assert IfevalReward.columns == IfevalHelpfulGrader.columns == ("instruction_id_list", "kwargs")
