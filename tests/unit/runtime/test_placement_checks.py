"""Workers that cannot be where a recipe puts them are refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ConfigError
from rlhf.plugins import Plugins, load_plugins
from rlhf.recipe import load_recipe
from rlhf.runtime.placement_checks import require_place
from rlhf.runtime.plan import plan_stage
from tests.tiny_runs import pipeline


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def check(plugins: Plugins, kind: str, *, stage: str = "ppo", **changes: Any) -> None:
    require_place(plan_stage(load_recipe(pipeline(kind, **changes)), stage, plugins, Path("runs/r")))


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (
            {"policy": {"gpus": 0.8}, "rollout": {"gpus": 0.6}},
            r"share one GPU, and ask for 1\.4 \(policy 0\.8, rollout 0\.6\); lower gpus, or set runtime\.pl",
        ),
        ({"rollout": {"gpus": 2}}, r"share one GPU, and ask for 2 \(rollout 2\)"),
        (
            {"policy": {"gpus": 0.6}, "rollout": {"gpus": 0.4}},
            r"of which policy 0\.6, rollout 0\.4 leave nothing for reference, value, reward; lower gpus, or give ",
        ),
    ],
)
def test_shares_that_are_more_than_a_device_are_refused(plugins: Plugins, workers: object, words: str) -> None:
    with pytest.raises(ConfigError, match=r"^runtime\.workers: colocated workers .*" + words):
        check(plugins, "ray", runtime__placement="colocated", runtime__workers=workers)
    check(plugins, "ray", runtime__workers=workers)
    check(plugins, "ray", stage="sft", runtime__placement="colocated", runtime__workers=workers)


@pytest.mark.parametrize(
    "workers",
    [
        {},
        {"rollout": {"gpus": 0.4}},
        {"policy": {"gpus": 0.7}, "value": {"gpus": 0.3}, "rollout": {"gpus": 0}, "reference": {"gpus": 0}}
        | {"reward": {"gpus": 0}},
        {"rollout": {"num": 3}},
    ],
)
def test_shares_of_one_device_are_taken(plugins: Plugins, workers: object) -> None:
    check(plugins, "ray", runtime__placement="colocated", runtime__workers=workers)


def test_an_ensemble_counts_each_of_its_members(plugins: Plugins) -> None:
    changes: dict[str, Any] = {
        "stages__ppo__reward_model": ["stage:reward"] * 3,
        "runtime__placement": "colocated",
        "runtime__workers": {"reward": {"gpus": 0.4}},
    }
    with pytest.raises(ConfigError, match=r"ask for 1\.2 \(reward 0\.4, reward_2 0\.4, reward_3 0\.4\)"):
        check(plugins, "ray", **changes)


def test_an_engine_over_several_devices_cannot_share_one(plugins: Plugins) -> None:
    changes: dict[str, Any] = {
        "stages__ppo__rollout__engine": {"type": "vllm", "options": {"tensor_parallel_size": 2}},
    }
    with pytest.raises(
        ConfigError, match=r"^rollout\.engine\.options\.tensor_parallel_size: .* has one GPU, given 2; "
    ):
        check(plugins, "ray", runtime__placement="colocated", **changes)
    check(plugins, "ray", **changes)


@pytest.mark.parametrize("kind", ["ray", "inline"])
def test_engines_that_take_turns_cannot_overlap(plugins: Plugins, kind: str) -> None:
    ahead = {"stages__ppo__rollout__max_staleness": 1}
    with pytest.raises(
        ConfigError, match=r"^rollout\.max_staleness: 1 lets sampling and learning overlap, and colocated"
    ):
        check(plugins, kind, runtime__placement="colocated", **ahead)
    check(plugins, kind, **ahead)


@pytest.mark.parametrize(("key", "value"), [("gpus", 0.5), ("gpus", 0), ("cpus", 2)])
def test_one_process_has_no_shares_to_give(plugins: Plugins, key: str, value: float) -> None:
    changes: dict[str, Any] = {"runtime__workers": {"rollout": {key: value}}}
    with pytest.raises(
        ConfigError, match=rf"^runtime\.workers\.rollout\.{key}: the inline runtime .* given {value:g}; "
    ):
        check(plugins, "inline", **changes)
    check(plugins, "ray", **changes)


def test_what_cannot_be_placed_leaves_no_folder(tmp_path: Path) -> None:
    recipe = pipeline("inline", runtime__workers={"policy": {"num": 2}})
    with pytest.raises(
        ConfigError, match=r"^runtime\.workers: the inline runtime is one process; use runtime\.type=ray"
    ):
        rlhf.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_than_a_gpu_is_whole_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"runtime\.workers\.policy\.gpus: .*a part of one GPU or whole ones, given 1\.5"
    ):
        load_recipe(pipeline("ray", runtime__workers={"policy": {"gpus": 1.5}}))
    load_recipe(pipeline("ray", runtime__workers={"policy": {"gpus": 2}}))


def test_a_placement_that_is_unknown_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"runtime\.placement: .*'apart' or 'colocated'"):
        load_recipe(pipeline("ray", runtime__placement="together"))
