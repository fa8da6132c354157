"""Several nodes: workers are spread over them, and a run outlives one that is lost with all its workers at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

import rlhf
from tests.integration.test_resume import lines_of, models, stage
from tests.ray.test_restarts import figures, on_ray
from tests.ray.watched_run import WatchedRun, error_of
from tests.tiny_runs import Recipe, assert_same_weights, changed

__all__ = ["models"]  # a fixture
pytestmark = [pytest.mark.ray, pytest.mark.slow]

EVERY = pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="with RLHF_TEST_EVERY_METHOD=1")
KILL = int(signal.SIGKILL)
CPUS = {role: {"cpus": 1} for role in ("policy", "value", "reference", "reward")} | {"rollout": {"num": 2, "cpus": 2}}
"""Eight, of two nodes that have six each: no node holds them all, and one that is left can be joined by a new one."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without room for workers, and two nodes."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for number in (1, 2):
            add_node(made, number)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def add_node(cluster: Cluster, number: int) -> None:
    """With an address of its own, or the driver might sit on it."""
    cluster.add_node(num_cpus=6, node_ip_address=f"127.0.0.{10 + number}", dashboard_agent_listen_port=0)


def ppo(models: Path, strikes: Path, cluster: Cluster) -> Recipe:
    return on_ray(stage("ppo", models), strikes, **{"runtime.address": cluster.address, "runtime.workers": CPUS})


# Who takes its node along, at which of its calls.
LOSSES = {
    "rollout": ("rollout.stream", 3),
    "update": ("policy.train_step", 6),  # in the second step
    "save": ("value.save", 2),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", ["update", pytest.param("rollout", marks=EVERY), pytest.param("save", marks=EVERY)])
def test_a_run_outlives_a_node(phase: str, cluster: Cluster, models: Path, tmp_path: Path) -> None:
    whole = rlhf.train(stage("ppo", models), out=tmp_path / "whole")  # in one process: the same, as another test shows
    add_node(cluster, 3)  # what an autoscaler would add
    strikes = tmp_path / "strikes"
    recipe = ppo(models, strikes, cluster)
    mark, call = LOSSES[phase]
    (strikes / mark).write_text(f"{call} {KILL} node")
    run = rlhf.train(recipe, out=tmp_path / "run")
    assert list(strikes.iterdir()) == []
    assert figures(run.folder) == figures(whole.folder)
    assert_same_weights(whole.model, run.model)


@EVERY
@pytest.mark.timeout(600)
def test_a_run_that_loses_the_head_saves_and_goes_on_elsewhere(cluster: Cluster, models: Path, tmp_path: Path) -> None:
    recipe = changed(ppo(models, tmp_path / "strikes", cluster), {"algorithm.steps": 100_000})
    run = WatchedRun(recipe, tmp_path)
    run.wait_for_step(2)
    gcs = cluster.head_node.all_processes["gcs_server"][0].process
    gcs.kill()
    code, errors = run.finish(60)
    assert run.left_behind() == {}
    assert code == 128 + signal.SIGTERM, errors
    assert f"the head of the cluster, {cluster.address}, does not answer" in errors
    assert error_of(errors).startswith("interrupted: stopped "), errors
    saved = max(int(path.name.removeprefix("step-")) for path in (run.out / "checkpoints").iterdir())
    again = WatchedRun(changed(recipe, {"runtime": {"type": "inline"}}), tmp_path, "--resume")
    again.wait_for_step(saved + 1)
    again.stop()
    steps = [row["step"] for row in lines_of(run.out)]
    assert steps == list(range(1, len(steps) + 1))
