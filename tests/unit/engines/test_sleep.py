"""An engine that sleeps holds nothing on its device, and goes on afterwards as if it had not slept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlhf.engines.device_memory import move
from rlhf.engines.vllm_rollout import VLLMRollout
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood
from tests.unit.engines.test_torch_engine import assert_same, engine, weights


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_an_engine_that_slept_takes_the_same_steps(model_path, lora):
    slept, awake = (engine(model_path("llama-tied"), lora=lora) for _ in range(2))
    batch = make_batch([9, 3, 12, 4])
    for _ in range(3):
        slept.sleep()
        slept.wake()
        assert slept.train_step(batch, Likelihood()) == awake.train_step(batch, Likelihood())
        assert_same(weights(slept), weights(awake), atol=0, rtol=0)


def test_it_wakes_on_its_device_and_sleeps_on_the_cpu(model_path):
    """`meta` takes everything and gives nothing back, so that a copy from it is seen to be tried."""
    slept = engine(model_path("llama-tied"))
    slept.device = torch.device("meta")
    slept.wake()
    assert {parameter.device.type for parameter in slept.model.parameters()} == {"meta"}
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        slept.sleep()


def test_all_that_is_large_goes_to_the_other_device(model_path):
    """Here to `meta`, which is nowhere: no machine needs a GPU for this."""
    trained = engine(model_path("llama-tied"))
    trained.train_step(make_batch([9, 3, 12, 4]), Likelihood())
    move(trained.model, trained.optimizer, torch.device("meta"))
    held = [*trained.model.parameters(), *trained.model.buffers()]
    assert {tensor.device.type for tensor in held} == {"meta"}
    places = [{name: value.device.type for name, value in state.items()} for state in trained.optimizer.state.values()]
    assert places
    assert all(place == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"} for place in places)


WEIGHTS = [("norm", torch.ones(2))]


class Llm:
    """What vLLM is told."""

    def __init__(self, *, sleeps: bool) -> None:
        model = SimpleNamespace(enable_sleep_mode=sleeps)
        self.llm_engine = SimpleNamespace(vllm_config=SimpleNamespace(model_config=model))
        self.told: list[Any] = []

    def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    def wake_up(self, tags: list[str] | None = None) -> None:
        self.told.append(f"wake {tags or 'all'}")

    def collective_rpc(self, method: Any, args: Any) -> list[Any]:
        self.told.append("load")
        return [{}]

    def reset_prefix_cache(self) -> None:
        pass


def vllm(*, sleeps: bool) -> tuple[VLLMRollout, list[Any]]:
    made: Any = object.__new__(VLLMRollout)
    made.llm, made._places, made._twins, made._half_loaded = Llm(sleeps=sleeps), dict(WEIGHTS), {}, None
    made._weights_sleep, made._lora = False, None
    return made, made.llm.told


def test_vllm_wakes_its_weights_to_load_and_its_cache_to_generate():
    rollout, told = vllm(sleeps=True)
    rollout.load_weights(iter(WEIGHTS), 1)
    rollout.sleep()
    rollout.load_weights(iter(WEIGHTS), 2)
    rollout.load_weights(iter(WEIGHTS), 3)
    rollout.wake()
    rollout.load_weights(iter(WEIGHTS), 4)
    assert told == ["load", "sleep 1", "wake ['weights']", "load", "load", "wake all", "load"]


def test_vllm_that_cannot_sleep_is_not_told_to():
    rollout, told = vllm(sleeps=False)
    rollout.sleep()
    rollout.load_weights(iter(WEIGHTS), 1)
    rollout.wake()
    assert told == ["load"]
