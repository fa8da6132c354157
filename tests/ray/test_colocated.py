"""Workers are where the recipe puts them; on the same devices they take turns, and learn the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ResourceError
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.result import RunResult
from tests.tiny_runs import GRPO, MODEL, Recipe, assert_same_weights, changed, single, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Engines that write down on which device they are told to do what.
WATCHED = """
import os
from pathlib import Path

from rlhf import hookimpl
from rlhf.config import PartConfig


class Config(PartConfig):
    log: str


class Watched:
    def __init__(self, config, name, engine):
        self.config, self.name, self.engine = config, name, engine

    def __getattr__(self, what):
        return self.watched(what, getattr(self.engine, what))

    def watched(self, what, does):
        what = "generate" if what == "stream" else what

        def call(*arguments, **options):
            with Path(self.config.log).open("a") as log:
                log.write(f"{self.name} {os.environ.get('CUDA_VISIBLE_DEVICES') or '-'} {what}\\n")
            return does(*arguments, **options)

        return call


def rollout(config, model):
    from rlhf.engines.settings import TransformersRolloutConfig
    from rlhf.engines.transformers_rollout import TransformersRollout

    return Watched(config, "rollout", TransformersRollout(TransformersRolloutConfig(), model))


def trainer(config, spec):
    from rlhf.engines.settings import TorchConfig
    from rlhf.engines.torch_engine import TorchEngine

    return Watched(config, spec.role, TorchEngine(TorchConfig(), spec))


@hookimpl
def register_rollout_engines(register):
    register("watched", rollout, config=Config)


@hookimpl
def register_train_engines(register):
    register("watched", trainer, config=Config)
"""


def grpo(folder: Path, kind: str, **runtime: Any) -> Recipe:
    """Two steps with a reference; `folder` gets the log."""
    folder.mkdir(exist_ok=True)
    plugin = folder / "watched.py"
    plugin.write_text(WATCHED)
    part = {"type": "watched", "log": str(folder / "log")}
    stage = {**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": "num_tokens"}
    recipe = single(stage, kind, **{"algorithm.steps": 2, "algorithm.kl_coef": 0.05, "engine": part})
    recipe["rollout"] = {**recipe["rollout"], "engine": part}
    recipe["runtime"] |= runtime
    return changed(recipe, {"plugins.paths": [str(plugin)]})


@pytest.fixture(scope="module")
def runs(ray_with_gpus: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """One recipe, apart and colocated."""
    folder = tmp_path_factory.mktemp("runs")
    workers = {
        "apart": {"policy": {"gpus": 1}, "reference": {"gpus": 0}, "rollout": {"num": 2, "gpus": 0.4}},
        "colocated": {"rollout": {"num": 2, "gpus": 0.4}},
    }
    recipes = {kind: grpo(folder / kind, "ray", placement=kind, workers=own) for kind, own in workers.items()}
    recipes["inline"] = grpo(folder / "inline", "inline", placement="colocated")
    return {kind: rlhf.train(recipe, out=folder / kind / "run") for kind, recipe in recipes.items()}


def log_of(run: RunResult) -> list[list[str]]:
    """Who was where, and did what."""
    return [line.split() for line in (run.folder.parent / "log").read_text().splitlines()]


def devices(run: RunResult) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for who, where, _ in log_of(run):
        found.setdefault(who, set()).add(where)
    return found


def test_colocated_workers_are_on_one_device(runs: dict[str, RunResult]) -> None:
    found = devices(runs["colocated"])
    assert found["policy"] == found["reference"]
    assert len(found["policy"]) == 1
    assert found["policy"] < found["rollout"] == {"0", "1"}, "the second engine has no trainer beside it"


def test_workers_apart_are_on_devices_of_their_own(runs: dict[str, RunResult]) -> None:
    found = devices(runs["apart"])
    assert found["reference"] == {"-"}, "on the CPU, with no GPU in sight"
    assert found["policy"] | found["rollout"] == {"0", "1"}
    assert not found["policy"] & found["rollout"]


@pytest.mark.parametrize("kind", ["colocated", "inline"])
def test_trainers_sleep_while_samples_are_drawn_and_engines_while_they_train(
    runs: dict[str, RunResult], kind: str
) -> None:
    trainers = {"policy", "reference"}
    awake = {"rollout", *trainers}
    seen = []
    for who, _, what in log_of(runs[kind]):
        seen.append(what)
        if what in ("sleep", "wake"):
            awake = awake - {who} if what == "sleep" else awake | {who}
        elif what == "generate":
            assert awake == {"rollout"}
        elif what in ("forward", "train_step", "weights"):
            assert who in awake
            assert "rollout" not in awake
        elif what == "load_weights":
            assert "rollout" not in awake, "it wakes its weights itself, and not its cache"
    assert min(seen.count(what) for what in ("generate", "train_step", "load_weights")) >= 2


def test_who_has_a_device_to_itself_never_sleeps(runs: dict[str, RunResult]) -> None:
    assert not {"sleep", "wake"} & {what for _, _, what in log_of(runs["apart"])}


def test_no_weight_and_no_figure_depends_on_the_placement(runs: dict[str, RunResult]) -> None:
    apart = runs["apart"]
    before, after = weights_of(apart.folder / "initial"), weights_of(apart.model)
    assert any(not before[name].equal(after[name]) for name in before)
    for kind in ("colocated", "inline"):
        assert_same_weights(apart.model, runs[kind].model)
    assert figures(runs["colocated"]) == figures(apart)


def figures(run: RunResult) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith("time")} for row in run.metrics]


def test_several_engines_have_a_trainer_each(ray_with_gpus: None) -> None:
    """Workers of halves, which Ray by itself packs role by role."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    from rlhf.runtime.placement import placed, worker_resources

    half = {"num": 2, "gpus": 0.5, "cpus": 0.1}
    runtime = RuntimeConfig.model_validate({"placement": "colocated", "workers": {"policy": half, "rollout": half}})
    share = worker_resources(runtime, ("policy", "rollout"), ray.cluster_resources())
    asked = {}
    with placed(runtime, share) as (group, bundles):
        for role, places in bundles.items():
            for place in places:
                where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=place)
                task = ray.remote(_device).options(num_cpus=0.1, num_gpus=0.5, scheduling_strategy=where)
                asked[role, places.index(place)] = task.remote()
        found = {worker: ray.get(reference) for worker, reference in asked.items()}
    policies, rollouts = ([found[role, rank] for rank in range(2)] for role in ("policy", "rollout"))
    assert policies == rollouts
    assert sorted(policies) == [[0], [1]]


def _device() -> list[int]:
    import time

    import ray

    time.sleep(2)  # long enough for all to have their devices at once
    ids: list[int] = ray.get_gpu_ids()
    return [int(number) for number in ids]


# --- arithmetic ------------------------------------------------------------------------------------------------------


def layout(cluster: dict[str, float], roles: tuple[str, ...], **runtime: Any) -> tuple[Any, Any]:
    from rlhf.runtime.placement import bundles_of, worker_resources

    config = RuntimeConfig(type="ray", **runtime)
    return bundles_of(config, worker_resources(config, roles, cluster))


ROLES = ("policy", "reference", "rollout")


@pytest.mark.parametrize(
    ("gpus", "workers", "bundles"),
    [
        (2, {}, [0.999]),
        (2, {"rollout": {"gpus": 0.4}}, [1.0]),
        (2, {"policy": {"num": 2}, "rollout": {"num": 2}}, [0.999, 0.666]),
        (1, {"policy": {"num": 2}, "rollout": {"num": 2, "gpus": 0.1}}, [0.5, 0.3]),
        (
            8,
            {"policy": {"num": 4, "gpus": 0.5}, "rollout": {"num": 2, "gpus": 0.5}, "reference": {"gpus": 0}},
            [1.0, 1.0, 0.5, 0.5],
        ),
        (0, {"rollout": {"num": 2}}, [0, 0]),
    ],
)
def test_a_bundle_holds_one_worker_of_each_role(gpus: float, workers: Any, bundles: list[float]) -> None:
    made, index = layout({"CPU": 16, "GPU": gpus}, ROLES, placement="colocated", workers=workers)
    assert [bundle.get("GPU", 0) for bundle in made] == pytest.approx(bundles)
    assert index == {role: list(range(workers.get(role, {}).get("num", 1))) for role in ROLES}
    assert sum(bundle["CPU"] for bundle in made) == sum(map(len, index.values()))


def test_a_worker_apart_has_a_bundle_to_itself() -> None:
    made, index = layout({"CPU": 16, "GPU": 4}, ROLES, workers={"rollout": {"num": 2, "gpus": 0.4}})
    assert index == {"policy": [0], "reference": [1], "rollout": [2, 3]}
    assert [bundle["GPU"] for bundle in made] == [1, 1, 0.4, 0.4]


@pytest.mark.parametrize(
    ("gpus", "workers", "words"),
    [
        (1, {"policy": {"num": 2, "gpus": 0.6}}, r"0\.6 of the 0\.5 GPUs for each .* left for reference, rollout"),
        (1, {role: {"num": 2, "gpus": 0.3} for role in ROLES}, r"1\.8 GPUs needed \(policy 2 x 0\.3, .*, 1 available"),
        (0, {"rollout": {"gpus": 0.5}}, r"0\.5 GPUs needed \(policy 1 x 0, .* rollout 1 x 0\.5\), 0 available"),
    ],
)
def test_devices_that_are_too_few_are_said(gpus: float, workers: Any, words: str) -> None:
    with pytest.raises(ResourceError, match=r"^runtime\.workers: " + words):
        layout({"CPU": 16, "GPU": gpus}, ROLES, placement="colocated", workers=workers)
