"""What rewards know survives a restart: what a judge has said, how often it failed, the mean of all it ever gave."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from rlhf.config import RewardPart
from rlhf.errors import RewardError
from rlhf.rewards.asking import AskedReward
from rlhf.rewards.rubric import Rubric
from rlhf.types import Completion, Prompt, Rollout, Score


def rollout(number: int) -> Rollout:
    completion = Completion(token_ids=(1,), logprobs=(0.0,), text=f"answer {number}", finish_reason="stop")
    return Rollout(prompt=Prompt(id=str(number), text=f"question {number}"), completion=completion)


class Judge:
    """Says something else each time it is asked, and cannot judge some."""

    def __init__(self, fails_on: Sequence[str] = ()) -> None:
        self.asked: list[str] = []
        self._fails_on = fails_on

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        self.asked += [rollout.prompt.id for rollout in rollouts]
        return [
            Score(error="no opinion") if one.prompt.id in self._fails_on else Score(value=len(self.asked) + place / 8)
            for place, one in enumerate(rollouts)
        ]


def rubric(judge: Judge, **options: object) -> Rubric:
    return Rubric([AskedReward("judge", judge, RewardPart.model_validate({"type": "judge", **options}))])


def continued(before: Rubric, judge: Judge, **options: object) -> Rubric:
    after = rubric(judge, **options)
    after.restore(json.loads(json.dumps(before.state())))
    return after


def rewards(judged: Rubric, *numbers: int) -> list[float | None]:
    return [one.reward for one in judged.score([rollout(number) for number in numbers])]


def test_a_cached_verdict_is_not_asked_for_again() -> None:
    before = rubric(Judge(), cache=True)
    said = rewards(before, 1, 2, 3)
    judge = Judge()
    assert rewards(continued(before, judge, cache=True), 3, 1, 2) == [said[2], said[0], said[1]]
    assert judge.asked == []


def test_running_means_go_on() -> None:
    whole = rubric(Judge(), normalize="running")
    rewards(whole, 1, 2, 3)
    half = rubric(Judge(), normalize="running")
    rewards(half, 1, 2, 3)
    judge = Judge()
    judge.asked = ["1", "2", "3"]
    assert rewards(continued(half, judge, normalize="running"), 4, 5) == rewards(whole, 4, 5)


def test_failures_before_a_restart_count_after_it() -> None:
    options = {"on_error": "drop", "max_error_rate": 0.3}
    failing = [str(number) for number in range(0, 60, 2)]
    before = rubric(Judge(failing), **options)
    rewards(before, *range(20))
    with pytest.raises(RewardError, match="failed on 16 of the last 32 completions"):
        rewards(continued(before, Judge(failing), **options), *range(20, 32))


def test_nothing_is_kept_of_what_does_not_outlive_a_step() -> None:
    judged = rubric(Judge(), normalize="batch")
    rewards(judged, 1, 2)
    assert judged.state() == {"judge": {}}
