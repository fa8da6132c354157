"""A hand-over that goes wrong stops the run at once and names the weight; one without proof is said to be so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlhf.config import LoraConfig, ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines import transformers_rollout
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.engines.weight_loading import load_strictly
from rlhf.errors import RunError
from rlhf.runtime.handover import Handover, require_same
from rlhf.types import Fingerprint
from tests.unit.engines.broken_handovers import SPOILT, Spoil, Spoilt, adapters_left_behind
from tests.unit.engines.families import make_batch, write_model, write_tokenizer
from tests.unit.engines.losses import Likelihood


@pytest.fixture
def path(tmp_path: Any) -> str:
    write_tokenizer(tmp_path)
    return write_model("llama", tmp_path)


def trained(path: str, lora: LoraConfig | None = None) -> TorchEngine:
    spec = RoleSpec(role="policy", model=ModelConfig(path=path, lora=lora), optimizer=OptimizerConfig(lr=0.01))
    trainer = TorchEngine(TorchConfig(), spec)
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())
    return trainer


def rollout(path: str) -> TransformersRollout:
    return TransformersRollout(TransformersRolloutConfig(), ModelConfig(path=path))


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_is_spoilt_is_named_at_the_first_hand_over(path: str, spoil: Spoil, message: str) -> None:
    trainer, engine = trained(path), rollout(path)
    Handover(print)(trainer, engine, 1)
    with pytest.raises(RunError, match=message) as caught:
        Handover(print)(Spoilt(trainer, spoil), engine, 2)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_never_arrives_is_named(path: str) -> None:
    trainer, engine = trained(path, LoraConfig(rank=4)), rollout(path)
    Handover(print)(trainer, engine, 1)
    first = r"first 'model\.layers\.0\.self_attn\.q_proj\.weight': its adapter was not merged into it"
    with pytest.raises(RunError, match=first):
        Handover(print)(Spoilt(trainer, adapters_left_behind), engine, 2)


def test_a_head_that_the_engine_did_not_load_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, engine = trained(path), rollout(path)
    hand_over = Handover(print)
    hand_over(trainer, engine, 1)
    trainer.train_step(make_batch([8, 9, 10]), Likelihood())

    def all_but_the_head(network: Any, weights: Any) -> None:
        stale = network.lm_head.weight.clone()
        load_strictly(network, weights)
        network.lm_head.weight.copy_(stale)

    monkeypatch.setattr(transformers_rollout, "load_strictly", all_but_the_head)
    message = r"after hand-over 2 .* 1 of the trainer's 21 weights, first 'lm_head\.weight': what is there is what was"
    with pytest.raises(RunError, match=message):
        hand_over(trainer, engine, 2)


class Guest:
    """An engine without fingerprints."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def load_weights(self, weights: Any, version: int) -> None:
        self.loaded.append(len(list(weights)))


def test_a_guest_without_fingerprints_works_and_it_is_said_once(path: str) -> None:
    said: list[str] = []
    hand_over, guest = Handover(said.append), Guest()
    for version in (1, 2):
        hand_over(trained(path), guest, version)
    assert guest.loaded == [21, 21]
    assert said == ["weights are handed over without proof: the rollout engine has no fingerprints()"]


def mark(*values: float, dtype: str = "torch.float32", merged: bool = False) -> Fingerprint:
    return Fingerprint(shape=(len(values),), dtype=dtype, values=values, merged=merged)


@pytest.mark.parametrize(
    ("held", "cause"),
    [
        ({"a": mark(1, 2)}, "'b': it never got there"),
        ({"a": mark(1, 2), "b": mark(1, 2, 3)}, r"'b': its shape is \(3,\), the trainer's \(2,\)"),
        ({"a": mark(1, 2), "b": mark(3, 4, dtype="torch.bfloat16")}, "'b': its format is torch.bfloat16"),
        ({"a": mark(1, 2), "b": mark(1, 2)}, "'b': what is there is the trainer's 'a'; two weights were exchanged"),
        ({"a": mark(1, 2), "b": mark(7, 8)}, "'b': what is there is what was there before; it was not loaded"),
        ({"a": mark(1, 2), "b": mark(3, 5)}, "'b': 1 of 2 elements looked at differ"),
        ({"a": mark(1, 2), "b": mark(3, float("nan"))}, "'b': 1 of 2 elements looked at differ"),
        ({"a": mark(1, 2), "b": mark(3, 4), "c": mark(0)}, "holds 1 weights the trainer has not, first 'c'"),
    ],
)
def test_likely_causes(held: dict[str, Fingerprint], cause: str) -> None:
    given = {"a": mark(1, 2), "b": mark(3, 4)}
    require_same(given, given, {}, "the engine")
    with pytest.raises(RunError, match=cause):
        require_same(given, held, {"b": mark(7, 8)}, "the engine")


@pytest.mark.parametrize(("dtype", "step"), [("torch.float32", 2e-7), ("torch.bfloat16", 2**-8)])
def test_a_merged_weight_may_differ_by_rounding_and_no_other(dtype: str, step: float) -> None:
    compare: Callable[[bool, float], None] = lambda merged, factor: require_same(  # noqa: E731
        {"a": mark(1.0, 0.5, dtype=dtype, merged=merged)},
        {"a": mark(1.0 + factor * step, 0.5, dtype=dtype)},
        {},
        "the engine",
    )
    compare(True, 1)
    for merged, factor in ((False, 1), (True, 100)):
        with pytest.raises(RunError, match="does not hold 1"):
            compare(merged, factor)
