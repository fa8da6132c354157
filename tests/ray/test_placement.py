"""More than the machine has is refused with what is needed and what there is; nothing waits for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ResourceError
from tests.tiny_runs import MODEL, PPO, SFT, Recipe, single

pytestmark = pytest.mark.ray

PPO_ALONE = {**PPO, "model": {"new": MODEL}, "reward_model": None, "reward": "constant"}


@contextmanager
def all_cores_taken() -> Iterator[None]:
    """As by another run on the same cluster."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([{"CPU": ray.cluster_resources()["CPU"]}])
    assert group.wait(30)
    try:
        yield
    finally:
        remove_placement_group(group)


def stage(kind: str, **runtime: Any) -> Recipe:
    recipe = single(PPO_ALONE if kind == "ppo" else SFT, "ray")
    recipe["runtime"] |= runtime
    recipe["engine"] = {"type": "deepspeed"}  # the engine that may have many workers
    return recipe


def test_a_cluster_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"runtime\.address: no Ray cluster answers at '127\.0\.0\.1:1'"):
        rlhf.train(stage("sft", address="127.0.0.1:1"), out=tmp_path / "run")


@pytest.mark.parametrize("kind", ["sft", "ppo"])
@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ({"num": 1, "cpus": 1000}, r"10\d\d(\.\d+)? CPUs needed \(policy 1 x 1000.*, \d+ available"),
        ({"num": 500, "cpus": 1}, r"500(\.\d+)? CPUs needed \(policy 500 x 1.*, \d+ available"),
        ({"num": 1, "gpus": 64}, r"64(\.\d+)? GPUs needed \(policy 1 x 64.*, \d+ available"),
    ],
)
def test_more_than_there_is_is_refused_at_once(
    ray_up: None, tmp_path: Path, kind: str, worker: dict[str, float], words: str
) -> None:
    started = time.monotonic()
    with pytest.raises(ResourceError, match=r"runtime\.workers: " + words) as caught:
        rlhf.train(stage(kind, workers={"policy": worker}), out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("kind", ["sft", "ppo"])
def test_a_cluster_that_is_taken_is_not_waited_for_for_ever(ray_up: None, tmp_path: Path, kind: str) -> None:
    with all_cores_taken(), pytest.raises(ResourceError, match=r"no place for \d workers within 3 s") as caught:
        rlhf.train(stage(kind, start_timeout=3), out=tmp_path / "run")
    assert "another run may hold the rest" in str(caught.value)
    assert "\n" not in str(caught.value)
