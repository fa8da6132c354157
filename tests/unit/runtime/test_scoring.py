"""Rewards and monitors of a recipe, built and asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.plugins import Plugins, PluginSettings, load_plugins
from rlhf.recipe import StageConfig, load_recipe
from rlhf.rewards.rubric import Rubric
from rlhf.runtime.scoring import Monitor, Scorer, StageParts, build_rubric
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

SHORT = {"type": "short", "processes": 0}


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


class Models:
    """Members of a reward model, each with the same score of every rollout by head."""

    def __init__(self, *members: dict[str, float]) -> None:
        self.members = members

    def scores(self, role: str, given: Sequence[Rollout]) -> list[dict[str, list[float]]]:
        return [{head: [score] * len(given) for head, score in member.items()} for member in self.members]

    def step_scores(self, role: str, given: Sequence[Rollout], separator: str) -> list[list[list[float]]]:
        """Of each member: a step is as likely right as its text says; nothing can be said of an empty completion."""
        odds = {"likely": 3.0, "unlikely": 1 / 3, "even": 1.0}
        texts = [rollout.completion.text for rollout in given]
        return [
            [[math.log(odds[step]) for step in text.split(separator) if step] for text in texts] for _ in self.members
        ]

    def heads(self, role: str) -> list[tuple[str, ...]]:
        return [tuple(member) for member in self.members]


def stage_parts(plugins: Plugins, *members: dict[str, float]) -> StageParts:
    return StageParts(plugins, Models(*members) if members else None)  # type: ignore[arg-type]


def rubric_of(config: StageConfig, plugins: Plugins, *members: dict[str, float]) -> Rubric:
    return build_rubric(config.reward, plugins, stage_parts(plugins, *members))


def test_parts_of_every_kind_are_summed(plugins: Plugins) -> None:
    config = stage(
        reward_model="r",
        reward=[SHORT, {"type": "constant", "value": 3.0, "weight": 2.0}, {"type": "reward_model", "weight": 0.5}],
    )
    rubric = rubric_of(config, plugins, {"score": 8.0})
    scored = rubric.score(rollouts("a", "bbb"))
    assert [r.reward for r in scored] == [-1 + 6 + 4, -3 + 6 + 4]
    assert scored[1].reward_parts == {"short": -3.0, "constant": 3.0, "reward_model": 8.0}


def test_two_parts_of_one_type_both_count(plugins: Plugins) -> None:
    config = stage(reward=[{"type": "constant", "value": 1.0}, {"type": "constant", "value": 5.0, "weight": 10.0}])
    (scored,) = rubric_of(config, plugins).score(rollouts("a"))
    assert scored.reward == 51.0
    assert scored.reward_parts == {"constant": 1.0, "constant_2": 5.0}


def test_an_unknown_reward_is_named_with_the_nearest(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match=r"no reward is called 'shart'\. Did you mean 'short'"):
        rubric_of(stage(reward="shart"), plugins)


def test_a_reward_model_is_the_reward_where_none_is_named() -> None:
    assert [part.type for part in stage(reward_model="r").reward] == ["reward_model"]


def test_a_monitor_asks_each_grader_about_the_prompts_of_its_axis_and_leaves_failed_grades_out(
    plugins: Plugins,
) -> None:
    monitor = Monitor(["as_told_helpful", "as_told_honest"], StageParts(plugins))
    given = rollouts(
        *"abcde", axis=["helpful", "helpful", "honest", None, "helpful"], score=[1.0, 0.0, 0.25, 0.75, None]
    )
    # The one without an axis is everybody's; the failed grade of the last does not count as a zero.
    assert monitor.metrics(given) == {"gold/helpful": pytest.approx(1.75 / 3), "gold/honest": 0.5}


def test_graders_of_one_axis_are_averaged(plugins: Plugins) -> None:
    monitor = Monitor(["as_told_honest", "as_told_honest"], StageParts(plugins))
    assert monitor.metrics(rollouts(*"ab", axis=["honest", "honest"], score=[0.25, 0.75])) == {"gold/honest": 0.5}


def test_a_monitor_with_nothing_to_judge_has_no_figure(plugins: Plugins) -> None:
    monitor = Monitor(["as_told_honest"], StageParts(plugins))
    assert monitor.metrics(rollouts("a", axis=["helpful"])) == {}


# --- reward models of several members and heads ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3.0),
        ({"reduce": "min"}, 1.0),
        ({"reduce": "mean_minus_std", "coef": 0.5}, 2.0),
        ({"reduce": "mean_minus_variance", "coef": 0.5}, 1.0),
    ],
)
def test_an_ensemble_is_reduced_as_the_recipe_says(plugins: Plugins, options: dict[str, Any], expected: float) -> None:
    config = stage(reward_model=["a", "b"], reward={"type": "reward_model", **options})
    rubric = rubric_of(config, plugins, {"score": 1.0}, {"score": 5.0})
    assert [r.reward for r in rubric.score(rollouts("a", "b"))] == [expected] * 2


def test_heads_are_weighed_before_members_are_reduced(plugins: Plugins) -> None:
    members = ({"helpful": 1.0, "harmless": 10.0}, {"helpful": 3.0, "harmless": -10.0})
    for heads, expected in (({}, -7.0), ({"helpful": 2.0}, 2.0), ({"helpful": 1.0, "harmless": -1.0}, -9.0)):
        config = stage(reward_model=["a", "b"], reward={"type": "reward_model", "reduce": "min", "heads": heads})
        (scored,) = rubric_of(config, plugins, *members).score(rollouts("a"))
        assert scored.reward == expected
    # What a grader of one's own is told: the sum of the heads, the mean of the members.
    assert stage_parts(plugins, *members).reward_model_scores(rollouts("a")) == [2.0]


def test_a_head_the_model_does_not_have_is_named_with_the_nearest(plugins: Plugins) -> None:
    config = stage(reward_model="a", reward={"type": "reward_model", "heads": {"helpfull": 1.0}})
    with pytest.raises(
        ConfigError, match=r"heads names 'helpfull', and the model has helpful, honest\. Did you mean 'hel"
    ):
        rubric_of(config, plugins, {"helpful": 1.0, "honest": 1.0})


@pytest.mark.parametrize(("over", "expected"), [("min", 0.25), ("mean", 0.5), ("last", 0.5)])
def test_steps_become_one_reward(plugins: Plugins, over: str, expected: float) -> None:
    options = {"over": over, "separator": ";", "on_error": "drop"}
    config = stage(reward_model="a", reward={"type": "process_reward", **options})
    given = rollouts("likely;unlikely;even", "")
    scored, failed = rubric_of(config, plugins, {"score": 0.0}).score(given)
    assert scored.reward == pytest.approx(expected)
    assert failed.error == "reward 'process_reward': too long for the reward model to judge"


def test_steps_need_a_model_to_judge_them() -> None:
    with pytest.raises(ConfigError, match="reward `process_reward` needs `reward_model: PATH` beside it"):
        stage(reward="process_reward")


# --- costs -----------------------------------------------------------------------------------------------------------


def test_costs_are_summed_beside_the_reward_and_are_zero_where_none_applies(plugins: Plugins) -> None:
    costs = [{"type": "pocket_gold", "weight": 2.0}, {"type": "cost_model", "weight": 0.5}]
    config = stage(reward=SHORT, cost=costs, cost_model="c")
    scorer = Scorer(config, plugins, stage_parts(plugins, {"score": 4.0}))
    scored = scorer.score(rollouts("aa"))
    assert [(r.reward, r.cost, dict(r.cost_parts)) for r in scored] == [(-2.0, 2.0, {"cost_model": 4.0})]
    figures = scorer.metrics(scored)
    assert figures["cost/mean"] == 2.0
    assert figures["cost/cost_model"] == 4.0
    assert figures["reward/mean"] == -2.0
    (nothing,) = Scorer(stage(reward=SHORT, cost="pocket_gold"), plugins, stage_parts(plugins)).score(rollouts("a"))
    assert (nothing.cost, nothing.error) == (0.0, None)


def test_a_cost_that_is_no_number_is_an_error_that_says_cost(plugins: Plugins) -> None:
    config = stage(reward=SHORT, cost={"type": "cost_model", "on_error": "drop"}, cost_model="c")
    (scored,) = Scorer(config, plugins, stage_parts(plugins, {"score": float("nan")})).score(rollouts("a"))
    assert scored.error == "cost 'cost_model': gave nan"


def test_a_cost_model_is_the_cost_where_none_is_named() -> None:
    assert [part.type for part in stage(reward=SHORT, cost_model="c").cost] == ["cost_model"]
    with pytest.raises(ConfigError, match="reward `cost_model` needs `cost_model: PATH` beside it"):
        stage(reward=SHORT, cost="cost_model")
