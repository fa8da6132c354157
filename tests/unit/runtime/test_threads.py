"""Threads of each process: those at work at the same time share the cores."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch

from rlhf.config import RolloutConfig
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.threads import at_work, threads_for
from rlhf.runtime.workers import _apart


class Plan:
    """What is read of a stage."""

    def __init__(self, specs: tuple[str, ...], **runtime: object) -> None:
        self.specs = dict.fromkeys(specs)
        self.runtime = RuntimeConfig.model_validate(runtime)
        self.config = SimpleNamespace(rollout=RolloutConfig())


@pytest.mark.parametrize(
    ("specs", "workers", "number"),
    [
        (("policy",), {}, 1),
        (("policy", "reference"), {}, 2),
        (("policy", "reference", "value"), {"policy": {"num": 2}}, 4),
        (("policy",), {"rollout": {"num": 3}}, 3),
    ],
)
def test_those_that_sample_rest_while_the_others_work(specs: tuple[str, ...], workers: object, number: int) -> None:
    plan = Plan(specs, workers=workers)
    assert at_work(plan) == number  # type: ignore[arg-type]
    assert threads_for(plan, 12, number) == 12 // number  # type: ignore[arg-type]


def test_those_that_sample_ahead_work_beside_the_others() -> None:
    plan = Plan(("policy", "reference"), workers={"rollout": {"num": 3}})
    plan.config.rollout = RolloutConfig(max_staleness=1)
    assert at_work(plan) == 5  # type: ignore[arg-type]


def test_there_is_always_one_thread_and_the_recipe_decides() -> None:
    assert threads_for(Plan(("policy",)), 2, 5) == 1  # type: ignore[arg-type]
    assert threads_for(Plan(("policy",), threads=7), 2, 5) == 7  # type: ignore[arg-type]


def test_a_weight_travels_without_the_others_of_its_buffer() -> None:
    buffer = torch.arange(1000.0)
    view = buffer[10:20].view(2, 5)
    sent = _apart(view)
    assert torch.equal(sent, view)
    assert len(pickle.dumps(view)) > 4000 > len(pickle.dumps(sent))
    assert _apart(buffer) is buffer
