"""Which rollout engine `auto` is; real vLLM is in tests/vllm."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from rlhf.config import ModelConfig, Part
from rlhf.errors import ConfigError, UnsupportedModel
from rlhf.recipe import RuntimeConfig
from rlhf.registry import Entry, Registry
from rlhf.runtime.engine_choice import built_rollout, vllm_on_gpu

MODEL = ModelConfig(path="somewhere")


def registry(vllm: Callable[..., str]) -> Registry:
    made = Registry()
    parts: dict[str, Callable[..., str]] = {"vllm": vllm, "transformers": lambda *_: "a transformers engine"}
    for name, factory in parts.items():
        made.add(Entry(kind="rollout_engine", name=name, factory=factory, config=None, owner="test"))
    return made


def failing(error: Exception) -> Callable[..., str]:
    def build(*_: Any) -> str:
        raise error

    return build


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.usefixtures("installed")
def test_vllm_where_it_runs_the_model() -> None:
    assert built_rollout(Part(type="auto"), MODEL, registry(lambda *_: "vllm")) == ("vllm", "rollout.engine auto: vllm")


@pytest.mark.usefixtures("installed")
def test_transformers_where_vllm_cannot() -> None:
    error = UnsupportedModel("vLLM cannot run somewhere: heads of 16; set rollout.engine: transformers")
    assert built_rollout(Part(type="auto"), MODEL, registry(failing(error))) == (
        "a transformers engine",
        "rollout.engine auto: transformers, since vLLM cannot run somewhere: heads of 16",
    )


@pytest.mark.usefixtures("installed")
def test_other_failures_are_not_hidden() -> None:
    with pytest.raises(ConfigError, match="no option"):
        built_rollout(Part(type="auto"), MODEL, registry(failing(ConfigError("no option"))))


def test_transformers_where_vllm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = registry(failing(AssertionError("must not be tried")))
    assert built_rollout(Part(type="auto"), MODEL, made) == (
        "a transformers engine",
        "rollout.engine auto: transformers, since vLLM is not installed",
    )


def test_an_engine_by_name_is_itself_and_nothing_is_said() -> None:
    made = registry(failing(AssertionError("must not be tried")))
    assert built_rollout(Part(type="transformers"), MODEL, made) == ("a transformers engine", None)


@pytest.mark.parametrize(
    ("placement", "gpus", "options"),
    [
        ("apart", 1, {}),
        ("apart", 0, {}),
        ("apart", 2, {}),
        ("apart", 0.4, {"gpu_memory_utilization": 0.36}),
        ("colocated", 0.4, {"enable_sleep_mode": True}),
        ("colocated", 0, {"enable_sleep_mode": True}),
    ],
)
def test_vllm_takes_its_part_of_a_gpu_or_can_sleep(placement: Any, gpus: float, options: dict[str, Any]) -> None:
    assert vllm_on_gpu(RuntimeConfig(placement=placement), gpus) == options


@pytest.mark.parametrize(
    ("gpu", "given", "told"),
    [
        (False, {"max_num_batched_tokens": 64}, {"max_num_batched_tokens": 64}),
        (True, {"max_num_batched_tokens": 64}, {"max_num_batched_tokens": 64, "gpu_memory_utilization": 0.36}),
        (True, {"gpu_memory_utilization": 0.2}, {"gpu_memory_utilization": 0.2}),
    ],
)
def test_what_the_recipe_tells_vllm_goes_before(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, given: dict[str, Any], told: dict[str, Any]
) -> None:
    seen: list[Any] = []
    made = registry(lambda *_: "")
    made.add(Entry(kind="rollout_engine", name="other", factory=lambda c, m: "", config=None, owner="test"))
    monkeypatch.setattr(made, "build", lambda kind, name, options, *_, **__: seen.append(options))
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    for name in ("vllm", "other"):
        built_rollout(Part(type=name, options=given), MODEL, made, {"gpu_memory_utilization": 0.36})
    assert seen == [{"options": told}, {"options": given}]
