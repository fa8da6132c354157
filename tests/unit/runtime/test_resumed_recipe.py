"""A resume may have other trackers, patience and machines, and must not have another method."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.errors import ConfigError
from rlhf.recipe import Recipe, load_recipe
from rlhf.runtime.resumed_recipe import changes, decisive_settings, require_resumable
from tests.tiny_runs import PPO, changed, single

BEGUN = changed(
    single({**PPO, "model": "a", "reward_model": ["b", "c"], "reward": [{"type": "num_tokens"}, {"type": "x"}]}, "ray"),
    {"evaluation": {"after": "a"}},
)
FREE = {
    "name": "other",
    "description": "told anew",
    "trackers": ["tensorboard"],
    "evaluation": {"after": "a", "num_prompts": 3},
    "checkpoint": {"every": 5, "keep": 9},
    "runtime.address": "10.0.0.1:6379",
    "runtime.start_timeout": 900.0,
    "rollout.timeout": 5.0,
    "optimizer.max_skipped": 9,
    "algorithm.max_logprob_gap": 0.5,
    "reward": [{"type": "num_tokens", "timeout": 5, "retries": 3}, {"type": "x", "max_error_rate": 0.9}],
}
ROUNDING = {
    "runtime.type": "inline",
    "runtime.threads": 2,
    "runtime.placement": "colocated",
    "runtime.workers": {"policy": {"num": 2}},
    "engine": {"type": "deepspeed", "zero_stage": 1},
    "model": {"path": "a", "attention": "eager"},
    "reward_model": ["b", {"path": "c", "attention": "eager"}],
}
DECISIVE = {
    "seed": 7,
    "algorithm.steps": 9,
    "algorithm.kl_coef": 0.3,
    "optimizer.lr": 0.5,
    "data.seed": 3,
    "held_out_rows": 3,
    "rollout.max_tokens": 3,
    "rollout.max_staleness": 1,
    "model": {"path": "a", "dtype": "bfloat16"},
    "reward": [{"type": "num_tokens", "weight": 2.0}, {"type": "x"}],
    "reward_model": ["b"],
    "monitor": ["pocket_honest"],
    "plugins.disable": ["other"],
}


def with_change(key: str, value: Any) -> tuple[Recipe, Recipe]:
    return load_recipe(BEGUN), load_recipe(changed(BEGUN, {key: value}))


@pytest.mark.parametrize("key", FREE)
def test_what_decides_nothing_may_be_changed(key: str) -> None:
    begun, now = with_change(key, FREE[key])
    assert begun != now
    assert require_resumable(begun, now, "rlhf train ...", strict=True) == []
    assert decisive_settings(begun) == decisive_settings(now)


@pytest.mark.parametrize("key", ROUNDING)
def test_what_rounds_otherwise_is_said_and_refused_where_bits_matter(key: str) -> None:
    begun, now = with_change(key, ROUNDING[key])
    lines = require_resumable(begun, now, "rlhf train ...", strict=False)
    assert lines
    assert all(line.endswith("; the run continues, not bit for bit") and "\n" not in line for line in lines)
    assert decisive_settings(begun) == decisive_settings(now)
    with pytest.raises(ConfigError, match="--strict-resume: the run would not go on bit for bit: ") as caught:
        require_resumable(begun, now, "rlhf train ...", strict=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", DECISIVE)
def test_what_decides_results_is_refused_by_name(key: str) -> None:
    begun, now = with_change(key, DECISIVE[key])
    with pytest.raises(ConfigError, match=rf"--resume: the recipe differs .*{key}.*; to go on .*: rlhf train \.\.\."):
        require_resumable(begun, now, "rlhf train ...", strict=False)
    assert decisive_settings(begun) != decisive_settings(now)


def test_every_difference_is_named_with_both_values() -> None:
    begun, now = load_recipe(BEGUN), load_recipe(changed(BEGUN, {"seed": 7, "trackers": [], "runtime.threads": 3}))
    assert changes(begun, now) == (["seed: 0 -> 7"], ["runtime.threads: 1 -> 3"])
