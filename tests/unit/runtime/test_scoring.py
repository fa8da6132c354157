"""Rewards and monitors of a recipe, built and asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.plugins import Plugins, PluginSettings, load_plugins
from rlhf.recipe import StageConfig, load_recipe
from rlhf.runtime.scoring import Monitor, StageParts, build_rubric
from rlhf.types import Completion, Prompt, Rollout
from tests.tiny_runs import PPO, single

PLUGIN = '''
from rlhf import hookimpl
from rlhf.types import Grade


class Graded:
    """Scores what the metadata says; fails where it says nothing."""

    def __init__(self, axis):
        self.axis = axis

    def grade(self, rollouts):
        return [Grade(axis=self.axis, score=r.prompt.metadata.get("score")) for r in rollouts]


@hookimpl
def register_graders(register):
    register("as_told_helpful", lambda config, parts: Graded("helpful"))
    register("as_told_honest", lambda config, parts: Graded("honest"))


def short(completions):
    return [-float(len(text)) for text in completions]
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    loaded = load_plugins(PluginSettings(paths=(f"{file}:short",)))
    loaded.require_healthy()
    return loaded


def stage(**changes: Any) -> StageConfig:
    recipe = {**single(PPO), "model": "m", "reward_model": None, **changes}
    return load_recipe(recipe).stages["ppo"]


def rollouts(*texts: str, **metadata: Sequence[Any]) -> list[Rollout]:
    return [
        Rollout(
            prompt=Prompt(id=str(i), text="?", metadata={k: v[i] for k, v in metadata.items() if v[i] is not None}),
            completion=Completion(token_ids=(1,), logprobs=(-1.0,), text=text, finish_reason="stop"),
        )
        for i, text in enumerate(texts)
    ]


def no_scores(_: Sequence[Rollout]) -> list[float]:
    raise AssertionError("no reward model was asked for")


def test_parts_of_every_kind_are_summed(plugins: Plugins) -> None:
    config = stage(
        reward_model="r",
        reward=["short", {"type": "constant", "value": 3.0, "weight": 2.0}, {"type": "reward_model", "weight": 0.5}],
    )
    rubric = build_rubric(config, plugins, StageParts(plugins, lambda given: [8.0] * len(given)))
    scored = rubric.score(rollouts("a", "bbb"))
    assert [r.reward for r in scored] == [-1 + 6 + 4, -3 + 6 + 4]
    assert scored[1].reward_parts == {"short": -3.0, "constant": 3.0, "reward_model": 8.0}


def test_two_parts_of_one_type_both_count(plugins: Plugins) -> None:
    config = stage(reward=[{"type": "constant", "value": 1.0}, {"type": "constant", "value": 5.0, "weight": 10.0}])
    (scored,) = build_rubric(config, plugins, StageParts(plugins, no_scores)).score(rollouts("a"))
    assert scored.reward == 51.0
    assert scored.reward_parts == {"constant": 1.0, "constant_2": 5.0}


def test_an_unknown_reward_is_named_with_the_nearest(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match=r"no reward is called 'shart'\. Did you mean 'short'"):
        build_rubric(stage(reward="shart"), plugins, StageParts(plugins, no_scores))


def test_a_reward_model_is_the_reward_where_none_is_named() -> None:
    assert [part.type for part in stage(reward_model="r").reward] == ["reward_model"]


def test_a_monitor_asks_each_grader_about_the_prompts_of_its_axis_and_leaves_failed_grades_out(
    plugins: Plugins,
) -> None:
    monitor = Monitor(["as_told_helpful", "as_told_honest"], StageParts(plugins, no_scores))
    given = rollouts(
        *"abcde", axis=["helpful", "helpful", "honest", None, "helpful"], score=[1.0, 0.0, 0.25, 0.75, None]
    )
    # The one without an axis is everybody's; the failed grade of the last does not count as a zero.
    assert monitor.metrics(given) == {"gold/helpful": pytest.approx(1.75 / 3), "gold/honest": 0.5}


def test_a_monitor_with_nothing_to_judge_has_no_figure(plugins: Plugins) -> None:
    monitor = Monitor(["as_told_honest"], StageParts(plugins, no_scores))
    assert monitor.metrics(rollouts("a", axis=["helpful"])) == {}
