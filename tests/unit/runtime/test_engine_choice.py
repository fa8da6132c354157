"""Which rollout engine `auto` is; real vLLM is in tests/vllm."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from rlhf.config import ModelConfig, Part
from rlhf.errors import ConfigError, UnsupportedModel
from rlhf.registry import Entry, Registry
from rlhf.runtime.engine_choice import built_rollout

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
