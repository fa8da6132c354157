"""What is measured: each measure's work in one step, and who does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.throughput import flops
from benchmarks.throughput.workload import (
    NEW_TOKENS,
    NUM_PROMPTS,
    NUM_SAMPLES,
    PAIRS,
    SMALL,
    demonstrations,
    pairs,
    prompts,
)

Side = Literal["ours", "ours too", "peer", "peer too"]
"""`ours` and `peer`: as their defaults have it. The others are compared only where the best of both sides are."""


@dataclass(frozen=True)
class Entry:
    """A contender of a measure: a module of this package and the task it is given."""

    name: str
    side: Side
    module: str
    task: dict[str, Any]
    short: bool = True
    """Whether it takes part in the short form."""
    peers_folder: bool = False
    """Whether it runs with the older libraries of `--peers`."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """One step of work that several contenders do in turns."""

    name: str
    unit: str
    amount: float
    """Of the unit, done in one step."""
    flops: float
    """That a step cannot do without (`benchmarks.throughput.flops`)."""
    entries: tuple[Entry, ...]
    ratio: str
    """Name of the ratio of the defaults."""
    best_ratio: str | None = None
    """Name of the ratio of the best of both sides."""
    copied_bytes: float = 0
    """That a step cannot do without moving: the weights, where an engine apart generates."""
    rounds: int = 7
    short_rounds: int = 3


def _ours(measure: str, name: str = "ours", side: Side = "ours", *, short: bool = True, **overrides: Any) -> Entry:
    task = {"measure": measure, "overrides": {key.replace("__", "."): value for key, value in overrides.items()}}
    return Entry(name, side, "ours", task, short)


def _trl(measure: str, name: str = "TRL", side: Side = "peer", *, short: bool = True, **arguments: Any) -> Entry:
    return Entry(name, side, "trl_trainers", {"measure": measure, "arguments": arguments}, short)


_AS_SHIPPED: dict[str, Any] = {"bf16": True, "gradient_checkpointing": True}


def _by_length(rows: int, at_once: int) -> dict[str, Any]:
    """The rows of a step sorted by length and cut into micro-batches."""
    return {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": rows // at_once,
        "train_sampling_strategy": "group_by_length",
    }


def _sft() -> Measure:
    lengths = [sum(row) + 1 for row in demonstrations().lengths]
    num = len(lengths)
    return Measure(
        "sft", "tokens/s", sum(lengths), flops.train_rows(SMALL, lengths), ratio="sft_vs_trl", best_ratio="sft_vs_trl_best",
        entries=(
            _ours("sft"),
            _ours("sft", "ours, bfloat16", "ours too", model__dtype="bfloat16"),
            _trl("sft"),
            _trl("sft", "TRL, by length", "peer too", **_by_length(num, 8)),
            _trl("sft", "TRL, by length, 4 rows at once", "peer too", short=False, **_by_length(num, 4)),
            _trl("sft", "TRL, by length, bfloat16", "peer too", short=False, bf16=True, **_by_length(num, 8)),
            _trl("sft", "TRL, packed", "peer too", short=False, **_PACKED),
            _trl("sft", "TRL, packed, bfloat16", "peer too", short=False, bf16=True, **_PACKED),
            _trl("sft", "TRL as shipped", "peer too", short=False, **_AS_SHIPPED),
        ),
    )  # fmt: skip


_PACKED: dict[str, Any] = {
    "packing": True,
    "max_length": 512,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 7,
}
"""The rows of a step fill 7 rows of 512 tokens."""


def _preference(name: str) -> Measure:
    lengths = [length for p, a, b in pairs().lengths for length in (p + a + 1, p + b + 1)]
    work = {
        "reward": flops.train_rows(SMALL, lengths, head=False),
        "dpo": flops.train_rows(SMALL, lengths) + flops.score_rows(SMALL, lengths),
    }[name]
    return Measure(
        name, "pairs/s", PAIRS, work, ratio=f"{name}_vs_trl", best_ratio=f"{name}_vs_trl_best",
        entries=(
            _ours(name),
            _ours(name, "ours, bfloat16", "ours too", model__dtype="bfloat16"),
            _trl(name),
            _trl(name, "TRL, bfloat16", "peer too", short=name == "reward", bf16=True),
            _trl(name, "TRL, by length", "peer too", short=False, **_by_length(PAIRS, 4)),
            _trl(name, "TRL, by length, bfloat16", "peer too", short=False, bf16=True, **_by_length(PAIRS, 4)),
            _trl(name, "TRL as shipped", "peer too", short=name == "dpo", **_AS_SHIPPED),
        ),
    )  # fmt: skip


def _grpo() -> Measure:
    lengths = [prompt for (prompt,) in prompts().lengths]
    rows = [prompt + NEW_TOKENS for prompt in lengths for _ in range(NUM_SAMPLES)]
    work = flops.generate(SMALL, lengths, NUM_SAMPLES, NEW_TOKENS) + flops.train_rows(SMALL, rows)
    return Measure(
        "grpo", "samples/s", NUM_PROMPTS * NUM_SAMPLES, work,
        ratio="grpo_vs_trl_transformers", best_ratio="grpo_vs_trl_best", copied_bytes=4 * SMALL.parameters,
        entries=(
            _ours("grpo"),
            _ours("grpo", "ours, bfloat16", "ours too", model__dtype="bfloat16"),
            _ours("grpo", "ours, Ray actors", "ours too", runtime__type="ray"),
            _trl("grpo"),
            _trl("grpo", "TRL as shipped", "peer too", **_AS_SHIPPED),
            _trl("grpo", "TRL, bfloat16", "peer too", short=False, bf16=True),
        ),
    )  # fmt: skip


def measures() -> tuple[Measure, ...]:
    """All of them, in the order they run."""
    return (_grpo(), _sft(), _preference("reward"), _preference("dpo"))
