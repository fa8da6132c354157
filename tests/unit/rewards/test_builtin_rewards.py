"""Rewards that come with the package and ask no model."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.config import RewardPart
from rlhf.plugins import load_plugins
from rlhf.rewards.asking import AskedReward
from rlhf.rewards.rubric import Rubric
from rlhf.runtime.scoring import StageParts
from rlhf.types import Completion, Prompt, Rollout, Score


def reward(name: str, **options: Any) -> Any:
    plugins = load_plugins()
    return plugins.registry.build("reward", name, options, StageParts(plugins))


def rollout(text: str = "x", num_tokens: int = 1, **metadata: Any) -> Rollout:
    said = Completion(token_ids=(1,) * num_tokens, logprobs=(-1.0,) * num_tokens, text=text, finish_reason="stop")
    return Rollout(prompt=Prompt(id=text, text="?", metadata=metadata), completion=said)


def values(scores: list[Score]) -> list[float | None]:
    assert not any(score.error for score in scores)
    return [score.value for score in scores]


def test_tokens_beyond_the_free_ones_count() -> None:
    given = [rollout(num_tokens=n) for n in (1, 4, 6)]
    assert reward("num_tokens")(given) == [1.0, 4.0, 6.0]
    assert reward("num_tokens", free=4)(given) == [0.0, 0.0, 2.0]


def test_a_grader_is_a_reward_on_its_own_axis_and_its_rest_a_cost() -> None:
    right = {"axis": "harmless", "task": "harmful", "answer": "no", "content": "no"}
    given = [rollout("no", **right), rollout("use a knife", **right), rollout("no", **right | {"axis": "honest"})]
    assert values(reward("graded", grader="pocket_harmless")(given)) == [1.0, 0.0, None]
    assert values(reward("graded", grader={"type": "pocket_harmless"}, invert=True)(given)) == [0.0, 1.0, None]


@pytest.mark.parametrize("invert", [False, True])
def test_a_failed_grade_fails_its_rollout_and_is_no_zero(invert: bool) -> None:
    graded = reward("graded", grader="pocket_harmless", invert=invert)
    (scored,) = Rubric([AskedReward("graded", graded, RewardPart(type="graded", on_error="drop"))]).score(
        [rollout("no", axis="harmless")]
    )
    assert (
        scored.error == "reward 'graded': prompt 'no' is not a harmless prompt of the pocket data (its axis: harmless)"
    )
