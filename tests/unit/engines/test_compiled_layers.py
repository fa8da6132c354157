"""Compiled layers take the steps of those that are not, for rows of any length and without being compiled again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines import compiled_layers
from rlhf.engines.settings import DeepSpeedConfig, TorchConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import ConfigError
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BATCHES = [[8, 9, 10], [3, 14], [12, 5, 7, 6, 2], [16, 16], [4, 11, 13]]


@pytest.fixture(autouse=True)
def afresh() -> Any:
    counters.clear()
    yield
    torch._dynamo.reset()


def engine(path: str, *, compiled: bool, packing: bool, **model: Any) -> TorchEngine:
    spec = RoleSpec(
        role="policy", model=ModelConfig(path=path, **model), optimizer=OptimizerConfig(lr=0.01, eps=1e-3), num_steps=9
    )
    return TorchEngine(TorchConfig(compile=compiled, packing=packing, micro_batch_tokens=20), spec)


@pytest.mark.parametrize(
    ("backend", "packing", "model"),
    [
        ("inductor", True, {}),
        # Traced and differentiated as ever, without the seconds of the C++ compiler.
        ("aot_eager", False, {}),
        ("aot_eager", True, {"lora": LoraConfig(rank=4), "gradient_checkpointing": True}),
    ],
    ids=["packed", "padded", "adapters, checkpointed"],
)
def test_steps_are_those_without_and_one_compilation_serves_all(
    model_path: Any, backend: str, packing: bool, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = model_path("llama"), torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda layer, dynamic: whole(layer, dynamic=dynamic, backend=backend)
    )
    plain, compiled = (engine(path, compiled=flag, packing=packing, **model) for flag in (False, True))
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for number, lengths in enumerate(BATCHES):
        batch = make_batch(lengths, seed=number)
        ours, theirs = (trainer.train_step(batch, Likelihood()) for trainer in (compiled, plain))
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
        if number == 0:
            graphs = counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == graphs
    for (name, left), (_, right) in zip(compiled.weights(), plain.weights(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5, msg=name)
    if backend != "inductor":  # a graph more, for lack of gradients
        outputs = [trainer.forward(make_batch([7, 12, 3])).logprobs for trainer in (compiled, plain)]
        torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_compiled_is_refused_in_one_line(model_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_layers.shutil, "which", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"^engine\.compile: torch\.compile needs a C\+\+ compiler, and there is none"
    ):
        engine(model_path("llama"), compiled=True, packing=True)
    monkeypatch.undo()
    spec = RoleSpec(role="policy", kind="encoder", model=ModelConfig(path=model_path("llama")))
    network = engine(model_path("llama"), compiled=False, packing=False).model
    with pytest.raises(ConfigError, match=r"^engine\.compile: LlamaForCausalLM is no decoder of like layers; leave"):
        compiled_layers.compile_layers(network.network, spec, network.precision, "none")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda layer, dynamic: layer.register_forward_hook(lambda _, __, out: out * 1.01), "says something else"),
        (lambda layer, dynamic: layer.register_forward_hook(_broken), "does not compile: the compiler broke; leave"),
    ],
)
def test_what_compiles_into_something_else_is_refused(
    model_path: Any, spoil: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", spoil)
    with pytest.raises(ConfigError, match=f"^engine.compile: LlamaForCausalLM {message}"):
        engine(model_path("llama"), compiled=True, packing=True)


def _broken(*_: Any) -> None:
    raise RuntimeError("the compiler broke\nin many lines")


@pytest.mark.deepspeed
def test_gathered_weights_and_compiled_layers_exclude_each_other(model_path: Any) -> None:
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine

    with pytest.raises(ConfigError, match="zero_stage 3 gathers weights inside each layer; set zero_stage 0, 1 or 2"):
        DeepSpeedEngine(
            DeepSpeedConfig(compile=True, zero_stage=3), RoleSpec(role="policy", model=ModelConfig(path="nowhere"))
        )
