"""One-file plugins on workers: the same there as on the driver, or the run does not begin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rlhf
from rlhf.errors import PluginError
from tests.tiny_runs import MODEL, PPO, SFT, Recipe, assert_same_weights, changed, single

pytestmark = pytest.mark.ray

# A method with a loss of its own, which crosses to the actors, and a reward, which does not.
REINFORCE = """
from dataclasses import dataclass

import torch

from rlhf import PartConfig, hookimpl
from rlhf.protocols import Algorithm
from rlhf.types import LossSum


class Options(PartConfig):
    steps: int = 2


@dataclass(frozen=True)
class PolicyGradient:
    scale: float
    entropy_grad = False

    def count(self, batch):
        return float(batch.response_mask.sum())

    def __call__(self, output, batch):
        centred = (batch.scores_B - batch.scores_B.mean()) / self.scale
        picked = torch.where(batch.response_mask, output.logprobs, torch.zeros_like(output.logprobs))
        return LossSum(total=-(picked * centred.unsqueeze(1)).sum(), sums={})


class Reinforce(Algorithm):
    needs = frozenset({"policy", "rollout"})
    consumes = "prompts"

    def __init__(self, config):
        self.config = config

    def num_steps(self, rows_per_epoch):
        return self.config.steps

    def run(self, run):
        for step, prompts in run.prompts(8):
            rollouts = run.score(run.sample(prompts, 2))
            metrics = run.policy.train_step(run.collate(rollouts), PolicyGradient(2.0))
            run.publish_weights()
            run.finish_step(step, metrics, rollouts)


@hookimpl
def register_algorithms(register):
    register("reinforce", Reinforce, config=Options)


@hookimpl
def register_rewards(register):
    register("long", lambda completions: [float(len(text)) for text in completions])
"""

# Adds a part in the driver's process only, as another version of a package on a node would.
TWO_FACED = """
import os

from rlhf import hookimpl


@hookimpl
def register_rewards(register):
    if os.getpid() == {driver}:
        register("only_here", lambda completions: [0.0 for _ in completions])
"""


def plugin(folder: Path, name: str, text: str) -> str:
    file = folder / f"{name}.py"
    file.write_text(text)
    return str(file)


def test_a_loss_of_a_plugin_crosses_to_the_actors(ray_up: None, tmp_path: Path) -> None:
    path = plugin(tmp_path, "reinforce", REINFORCE)
    stage = {"algorithm": "reinforce", "model": {"new": MODEL}, "reward": "long", "rollout": {"max_tokens": 6}}
    for kind in ("inline", "ray"):
        recipe = changed(single(stage, kind), {"plugins": {"paths": [path]}, "optimizer.lr": 1e-2})
        rlhf.train(recipe, out=tmp_path / kind)
    assert_same_weights(tmp_path / "inline" / "model", tmp_path / "ray" / "model")
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_same_weights(tmp_path / "inline" / "initial", tmp_path / "ray" / "model")


EVERY = pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="with RLHF_TEST_EVERY_METHOD=1")


@pytest.mark.parametrize(
    ("kind", "worker"), [("sft", "training worker 0"), pytest.param("ppo", "policy worker 0", marks=EVERY)]
)
def test_a_plugin_that_is_not_the_same_on_a_worker_is_refused(
    ray_up: None, tmp_path: Path, kind: str, worker: str
) -> None:
    path = plugin(tmp_path, "two_faced", TWO_FACED.format(driver=os.getpid()))
    ppo = {**PPO, "model": {"new": MODEL}, "reward_model": None, "reward": "constant"}
    recipe: Recipe = {**single(ppo if kind == "ppo" else SFT, "ray"), "plugins": {"paths": [path]}}
    with pytest.raises(PluginError, match=f"plugin 'two_faced' differs on {worker}, compared with the driver"):
        rlhf.train(recipe, out=tmp_path / "run")
