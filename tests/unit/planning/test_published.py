"""Peak memory as others measured and published it, for Llama-2 7B and 13B.

Sources, with what they say of their runs:

- Lightning AI, litgpt, tutorials/resource-tables.md (20 October 2023, PyTorch 2.1, one A100 of 40 GB): LoRA of rank 8
  on queries and values, `bf16-true`, no checkpointing, one row of 1,304 tokens (the longest of Alpaca); "Max GPU RAM".
  QLoRA the same with `bnb.nf4-dq` and bitsandbytes 0.41.1, which also kept the input of every quantised layer (its
  `ctx.tensors = (A, B)`; later ones do not).
- Lightning AI, litgpt, config_hub/finetune/README.md (2024): LoRA of rank 32 on queries and values, two rows of 512.
- PyTorch, torchtune, README of May 2024: four rows of 2,048 tokens, checkpointing, bfloat16; full fine-tuning with
  AdamW on four GPUs (FSDP), LoRA of rank 8 and QLoRA on one.
- Meta, llama-cookbook, issue 30 (July 2023): full fine-tuning of 13B on eight A100 of 40 GB, four rows; "max reserved
  memory on each GPU was 35 GB". It names no more: bfloat16 with float32 weights under FSDP, checkpointing and rows of
  2,048 tokens are the script's defaults of that time.

All sizes are in 10^9 bytes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import LlamaConfig

from rlhf.config import LoraConfig
from rlhf.planning.activations import activations
from rlhf.planning.network import Network, network_of
from rlhf.planning.replica import Work
from rlhf.planning.spread import Spread, standing, weight_bytes

WITHIN = 0.15
QUERIES_AND_VALUES = ("q_proj", "v_proj")


def llama_2(size: str) -> Network:
    hidden, mlp, layers, heads = {"7B": (4096, 11008, 32, 32), "13B": (5120, 13824, 40, 40)}[size]
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=32000,
        max_position_embeddings=4096,
    )
    return network_of(config, source=f"Llama-2-{size}")


def work(size: str, rows: int, width: int, lora: LoraConfig | None = None, *, checkpointing: bool = False) -> Work:
    """As the others do it: everything in bfloat16, all logits at once."""
    return Work(
        llama_2(size),
        rows,
        width,
        rows * width,
        weights="bfloat16",
        compute="bfloat16",
        lora=lora,
        adapters="bfloat16",
        checkpointing=checkpointing,
        whole_logits=True,
    )


def on_one_gpu(made: Work) -> float:
    """GB of adapters' training, whose gradients and moments are small."""
    held = standing(made, Spread(device="cuda"))
    return (weight_bytes(made) + held.gradients + held.optimizer + activations(made).training) / 1e9


def inputs_kept(made: Work) -> float:
    """GB of what bitsandbytes 0.41 kept: what enters attention, the first and the last products of the MLP."""
    inner = next(linear.inputs for linear in made.network.linears if linear.name == "down_proj")
    return made.tokens * made.network.layers * (2 * made.network.hidden + inner) * 2 / 1e9


def under_fsdp(made: Work, gpus: int, bytes_each: float, bytes_gathered: float) -> float:
    """GB of full fine-tuning in so many parts, with two layers, the embeddings and the head whole at a time."""
    network = made.network
    layer = sum(linear.size for linear in network.linears) / network.layers
    whole = 2 * layer + network.embedding + network.head
    return (network.parameters * bytes_each / gpus + whole * bytes_gathered + activations(made).training) / 1e9


def test_parameters_are_those_of_the_models() -> None:
    assert llama_2("7B").parameters == 6_738_415_616
    assert llama_2("13B").parameters == 13_015_864_320
    small = LoraConfig(rank=8, target_modules=QUERIES_AND_VALUES)
    assert llama_2("7B").adapter_parameters(small) == 4_194_304  # litgpt's own count
    assert llama_2("13B").adapter_parameters(small) == 6_553_600


@pytest.mark.parametrize(
    ("size", "rows", "width", "rank", "measured"),
    [("7B", 1, 1304, 8, 21.30), ("7B", 2, 1304, 8, 29.07), ("13B", 1, 1304, 8, 38.12), ("7B", 2, 512, 32, 19.77)],
)
def test_lora_as_litgpt_measured_it(size: str, rows: int, width: int, rank: int, measured: float) -> None:
    lora = LoraConfig(rank=rank, target_modules=QUERIES_AND_VALUES)
    assert on_one_gpu(work(size, rows, width, lora)) == pytest.approx(measured, rel=WITHIN)


@pytest.mark.parametrize(("size", "measured"), [("7B", 13.84), ("13B", 22.55)])
def test_qlora_as_litgpt_measured_it(size: str, measured: float) -> None:
    made = work(size, 1, 1304, LoraConfig(rank=8, target_modules=QUERIES_AND_VALUES))
    made = replace(made, quantised=True)
    assert on_one_gpu(made) + inputs_kept(made) == pytest.approx(measured, rel=WITHIN)


def test_lora_and_qlora_as_torchtune_measured_them() -> None:
    lora = work("7B", 4, 2048, LoraConfig(rank=8), checkpointing=True)
    assert on_one_gpu(lora) == pytest.approx(21.3, rel=WITHIN)
    assert on_one_gpu(replace(lora, quantised=True)) == pytest.approx(12.3, rel=WITHIN)


def test_full_as_torchtune_measured_it() -> None:
    made = work("7B", 4, 2048, checkpointing=True)
    assert under_fsdp(made, gpus=4, bytes_each=8, bytes_gathered=2) == pytest.approx(24.1, rel=WITHIN)


def test_full_13b_as_its_authors_measured_it() -> None:
    made = work("13B", 4, 2048, checkpointing=True)
    assert under_fsdp(made, gpus=8, bytes_each=16, bytes_gathered=2) == pytest.approx(35.0, rel=WITHIN)
