"""The sums a plan is made of, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, MixtralConfig

from rlhf.config import LoraConfig
from rlhf.errors import ConfigError
from rlhf.planning.activations import activations
from rlhf.planning.batches import Batches, Lengths
from rlhf.planning.cost import training_flops
from rlhf.planning.live_bytes import LiveBytes
from rlhf.planning.machine import parsed_memory
from rlhf.planning.network import SCALAR, Network, network_of
from rlhf.planning.replica import Work
from rlhf.planning.spread import ZERO_BUCKET, Spread, standing, weight_bytes


def tiny(layers: int = 6, **changes: object) -> Network:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "vocab_size": 200} | changes
    return network_of(LlamaConfig(num_hidden_layers=layers, **sizes))


def work(network: Network, **changes: object) -> Work:
    return replace(Work(network, 2, 16, 30, weights="float32", compute="float32"), **changes)


def test_live_bytes_follows_what_is_held_and_let_go() -> None:
    standing_before = torch.zeros(1000)
    with LiveBytes([standing_before]) as live:
        a = torch.zeros(100)  # 400 bytes
        b = a + standing_before[:100]
        assert (live.now, live.peak) == (800, 800)
        del a
        assert (live.now, live.peak) == (400, 800)
        live.restart()
        assert live.peak == 400
        view = b.view(10, 10)
        assert live.now == 400
        del b, view
    assert live.now == 0


@pytest.mark.parametrize(
    "changes", [{}, {"checkpointing": True}, {"lora": LoraConfig(rank=4)}, {"compute": "bfloat16"}]
)
def test_few_layers_tell_what_all_of_them_hold(changes: dict[str, object]) -> None:
    """Six layers, reckoned from two and three, against a model of so few that all are run."""
    from rlhf.planning.activations import _traced

    reckoned, run = activations(work(tiny(), **changes)), _traced(work(tiny(), **changes), 6)
    for said, seen in zip((reckoned.kept, reckoned.forward, reckoned.backward, reckoned.scoring), run, strict=False):
        assert said == pytest.approx(seen, rel=0.02)


def test_activations_grow_with_tokens_and_shrink_with_checkpointing_and_in_scoring() -> None:
    plain = activations(work(tiny()))
    assert activations(work(tiny()).of(4, 16)).kept == pytest.approx(2 * plain.kept, rel=0.1)
    assert activations(work(tiny(), checkpointing=True)).kept < plain.kept / 3
    assert plain.scoring < plain.training / 3


def test_weights_of_each_method() -> None:
    network = tiny()
    assert weight_bytes(work(network)) == 4 * network.parameters
    lora = LoraConfig(rank=8)
    adapters = network.adapter_parameters(lora)
    # per layer: q, k, v, o of 64 x 64 and three of 64 x 96
    assert adapters == 6 * 8 * (4 * 128 + 3 * 160)
    small = work(network, lora=lora, weights="bfloat16", compute="bfloat16")
    assert weight_bytes(small) == 2 * network.parameters + 4 * adapters
    inner = sum(layer.size for layer in network.linears)
    four_bits = weight_bytes(replace(small, quantised=True))
    assert four_bits == pytest.approx(2 * (network.parameters - inner) + 0.516 * inner + 4 * adapters, rel=0.001)


def test_zero_spreads_what_its_stage_says() -> None:
    network = tiny()
    whole = 4 * network.parameters
    alone = standing(work(network), Spread())
    assert (alone.weights, alone.gradients, alone.optimizer) == (whole, whole, 2 * whole)
    one, two, three = (
        standing(work(network), Spread(ranks=4, engine="deepspeed", zero_stage=stage)) for stage in (1, 2, 3)
    )
    assert (one.weights, one.gradients, one.optimizer) == (whole, whole, 3 * whole / 4)
    assert (two.weights, two.gradients) == (whole, whole / 4)
    assert (three.weights, three.gathered, three.gradients) == (whole / 4, 3 * whole / 4, whole / 4)
    on_gpu = Spread(ranks=4, engine="deepspeed", zero_stage=2, offload_optimizer=True, device="cuda")
    offloaded = standing(work(network), on_gpu)
    assert (offloaded.optimizer, offloaded.bucket) == (0, 4 * ZERO_BUCKET)
    assert offloaded.host == 5 * whole / 4


def test_shapes_of_other_families() -> None:
    gpt2 = network_of(GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=100, n_positions=32))
    assert (gpt2.layers, gpt2.context, gpt2.head) == (3, 32, 0)
    assert activations(work(gpt2)).kept > 0
    experts = network_of(
        MixtralConfig(
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=100,
            num_local_experts=8,
            num_experts_per_tok=2,
        )
    )
    assert experts.experts_used == 0.25
    assert experts.active < sum(layer.size for layer in experts.linears)
    scalar = network_of(LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4), SCALAR)
    assert scalar.head_size == 0


def test_unknown_targets_are_named() -> None:
    with pytest.raises(ConfigError, match=r"q_prj.*no such linear layers; there are down_proj"):
        tiny().targets(LoraConfig(target_modules=("q_prj",)))


def test_flops_are_six_for_each_weight_and_token() -> None:
    network = tiny(vocab_size=8)
    made = work(network, rows=1, width=1, asked=1)
    assert training_flops(made, 100) == pytest.approx(6 * 100 * network.active, rel=0.1)
    assert training_flops(replace(made, checkpointing=True), 100) == pytest.approx(8 * 100 * network.active, rel=0.1)


def test_batches_in_words() -> None:
    lengths = Lengths(mean=100, longest=200, answer=0.5, looked_at=7, limit=256)
    batches = Batches(
        unit="samples",
        rows_each=1,
        per_step=256,
        prompts=64,
        per_update=128,
        updates_per_step=4,
        steps=10,
        data_rows=320,
        ranks=2,
        lengths=lengths,
        micro_batch_tokens=2048,
    )
    assert (batches.rows_per_rank, batches.rows_at_once, batches.updates, batches.passes) == (64, 10, 40, 2.0)
    assert batches.micro_batches == 4
    first, second, third = batches.words()
    assert first == "A step: 64 prompts x 4 samples = 256 samples, 4 optimizer steps of 128 samples."
    assert "about 4 micro-batches on each of 2 processes of up to 2,048 tokens" in second
    assert third == "The stage: 10 steps, 40 optimizer steps, 256,000 tokens, 2.00 passes over 320 rows of data."


@pytest.mark.parametrize(("text", "size"), [("80GB", 80e9), ("16 GiB", 16 * 2**30), ("500MB", 5e8), ("eighty", None)])
def test_sizes_as_people_write_them(text: str, size: float | None) -> None:
    assert parsed_memory(text) == size
