"""Samples drawn ahead on actors: the numbers of one process, and new weights in the midst of a text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import RunError
from rlhf.runtime.result import RunResult
from tests.tiny_runs import GRPO, PPO, SFT, Recipe, assert_same_weights, changed, single

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LENGTH: Recipe = {**{key: value for key, value in GRPO.items() if key != "reward_model"}, "reward": "num_tokens"}

# An engine so slow that a step of training falls between any two of its tokens; it writes down what it holds at each.
SLOW = """
import time
from pathlib import Path

from rlhf import hookimpl
from rlhf.config import PartConfig


class Config(PartConfig):
    versions: str
    loses: str = ""


class Slow:
    def __init__(self, config, model):
        from rlhf.engines.settings import TransformersRolloutConfig
        from rlhf.engines.transformers_rollout import TransformersRollout

        self.engine, self.config = TransformersRollout(TransformersRolloutConfig(), model), config

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def stream(self, prompts, sampling):
        with Path(self.config.versions).open("a") as file:
            print(file=file)
            for ended in self.engine.stream(prompts, sampling):
                print(self.engine.version, end=" ", file=file, flush=True)
                time.sleep(0.2)
                yield ended

    def load_weights(self, weights, version):
        held = dict(self.engine.network.state_dict())
        given = [(name, held[name].clone() if name == self.config.loses else tensor) for name, tensor in weights]
        self.engine.load_weights(iter(given), version)


@hookimpl
def register_rollout_engines(register):
    register("slow", Slow, config=Config)
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(rlhf.train(single(SFT), out=tmp_path_factory.mktemp("start") / "run").model)


def train(start: str, out: Path, runtime: str = "ray", **changes: Any) -> RunResult:
    recipe = single({**LENGTH, "model": start}, runtime)
    return rlhf.train(changed(recipe, {"rollout.max_staleness": 1, "algorithm.steps": 4, **changes}), out=out)


def slow(folder: Path, **options: str) -> Recipe:
    (folder / "slow.py").write_text(SLOW)
    return {
        "plugins.paths": [str(folder / "slow.py")],
        "rollout.engine": {"type": "slow", "versions": str(folder / "versions"), **options},
        "rollout.in_flight_updates": True,
        "held_out_rows": 0,
    }


@pytest.mark.parametrize(
    "changes", [{}, {"rollout.stream": True}] if os.environ.get("RLHF_TEST_EVERY_METHOD") else [{}]
)
def test_samples_drawn_ahead_are_those_of_one_process(
    ray_up: None, start: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    free = {"algorithm.kl_coef": 0.0}  # for a reference that reads rows early reads them in other company
    inline = train(start, tmp_path / "inline", "inline", **free)
    ray = train(start, tmp_path / "ray", **free, **changes)
    assert [row["rollout/staleness"] for row in ray.metrics] == [0, 1, 1, 1]
    assert_same_weights(inline.model, ray.model)


@pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="minutes; with RLHF_TEST_EVERY_METHOD=1")
def test_models_that_read_early_think_the_same(ray_up: None, start: str, tmp_path: Path) -> None:
    """To the last bits, for rows are read in other company."""
    models = {"reward_model": start, "value": {"model": start, "optimizer": {"lr": 1e-3}}, "rollout.max_staleness": 0}
    recipe = single({**PPO, "model": start, "reward": "num_tokens"}, "ray")
    late, early = (
        rlhf.train(changed(recipe, {**models, "rollout.stream": stream}), out=tmp_path / str(stream))
        for stream in (False, True)
    )
    for one, other in zip(late.metrics, early.metrics, strict=True):
        for name in set(one) - {name for name in one if name.startswith("time")}:
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4), name


def test_new_weights_reach_what_is_being_written(ray_up: None, start: str, tmp_path: Path) -> None:
    run = train(start, tmp_path / "run", **slow(tmp_path))
    assert [row["rollout/staleness"] for row in run.metrics] == [0, 1, 1, 1]
    written = [[int(version) for version in line.split()] for line in (tmp_path / "versions").read_text().splitlines()]
    assert any(len(set(versions)) > 1 for versions in written), f"{written}: no batch was written by two policies"
    assert all(versions == sorted(versions) for versions in written)


def test_a_weight_lost_in_flight_stops_the_run(ray_up: None, start: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"after hand-over 1 of weights, .* first 'model\.norm\.weight': .* it is stale"):
        train(start, tmp_path / "run", **slow(tmp_path, loses="model.norm.weight"))
