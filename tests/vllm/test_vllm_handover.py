"""Hand-overs to real vLLM: proved when they succeed, and stopped with the weight named when they do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import TorchConfig, VLLMRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.errors import RunError
from rlhf.runtime.handover import Handover
from rlhf.types import Prompt, Sampling
from tests.unit.engines.broken_handovers import SPOILT, Spoil, Spoilt, adapters_left_behind, grow_adapters
from tests.unit.engines.families import make_batch
from tests.unit.engines.losses import Likelihood
from tests.vllm.models import write_tied_qwen3

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tied_qwen3(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(path: str, dtype: Any) -> Any:
    from rlhf.engines.vllm_rollout import VLLMRollout

    return VLLMRollout(VLLMRolloutConfig(), ModelConfig(path=path, dtype=dtype))


def trained(path: str, dtype: Any, lora: LoraConfig | None = None) -> TorchEngine:
    model = ModelConfig(path=path, dtype=dtype, lora=lora)
    trainer = TorchEngine(TorchConfig(), RoleSpec(role="policy", model=model, optimizer=OptimizerConfig(lr=0.01)))
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    return trainer


def silent(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)], ids=["all weights", "adapters"])
def test_a_hand_over_is_proved(engine: Any, path: str, dtype: str, lora: LoraConfig | None) -> None:
    trainer = trained(path, dtype, lora)
    if lora is not None:
        grow_adapters(trainer)
    Handover(silent)(trainer, engine, 3)
    held = engine.fingerprints()
    assert held.keys() == trainer.fingerprints().keys()
    assert {f.dtype for f in held.values()} == {f"torch.{dtype}"}
    (completion,) = engine.generate([Prompt(id="p", text="", token_ids=(3, 4))], Sampling(max_tokens=4))[0]
    assert completion.policy_version == 3


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_is_spoilt_is_named_at_the_first_hand_over(
    engine: Any, path: str, dtype: str, spoil: Spoil, message: str
) -> None:
    trainer = trained(path, dtype)
    with pytest.raises(RunError, match=message):
        Handover(silent)(Spoilt(trainer, spoil), engine, 1)


def test_an_adapter_that_never_arrives_is_named(engine: Any, path: str, dtype: str) -> None:
    trainer = trained(path, dtype, LoraConfig(rank=4))
    grow_adapters(trainer)
    first = r"first 'model\.layers\.0\.self_attn\.q_proj\.weight': its adapter was not merged into it"
    with pytest.raises(RunError, match=first):
        Handover(silent)(Spoilt(trainer, adapters_left_behind), engine, 1)


def test_a_trainer_of_another_format_is_refused(engine: Any, path: str, dtype: str) -> None:
    other = "bfloat16" if dtype == "float32" else "float32"
    message = f"was sent in {other}; the rollout engine holds it in {dtype}: .* one format \\(model.dtype\\)"
    with pytest.raises(RunError, match=message):
        Handover(silent)(trained(path, other), engine, 1)


@pytest.mark.parametrize("lost", ["lm_head.weight", "model.norm.weight"])
def test_what_vllm_is_never_given_is_named(
    engine: Any, path: str, dtype: str, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale tied head, the field's best-known silent failure: vLLM itself does not miss it."""
    from rlhf.engines import vllm_rollout

    whole = vllm_rollout._reload

    def partly(worker: Any, weights: list[tuple[str, torch.Tensor]]) -> Any:
        return whole(worker, [(name, tensor) for name, tensor in weights if name != lost])

    monkeypatch.setattr(vllm_rollout, "_reload", partly)
    with pytest.raises(RunError, match=f"1 of the trainer's .* first '{lost}': it never got there"):
        Handover(silent)(trained(path, dtype), engine, 1)


def test_what_vllm_does_not_put_into_place_is_named(
    engine: Any, path: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what vLLM keeps as it came, what it holds is read, not what it was given."""
    from vllm.v1.worker.gpu_worker import Worker

    whole = Worker.reload_weights

    def zeroed(worker: Any, weights_iterator: Iterator[tuple[str, torch.Tensor]]) -> None:
        norms = ((n, torch.zeros_like(t) if n == "model.norm.weight" else t) for n, t in weights_iterator)
        whole(worker, weights_iterator=norms)

    monkeypatch.setattr(Worker, "reload_weights", zeroed)
    with pytest.raises(RunError, match=r"1 of the trainer's .* first 'model\.norm\.weight': 64 of 64 elements"):
        Handover(silent)(trained(path, dtype), engine, 1)
