"""What is measured: each measure's work in one step, and who does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.throughput import flops
from benchmarks.throughput.generation import VLLM_ENVIRONMENT
from benchmarks.throughput.workload import (
    HUNDRED_MILLION,
    NEW_TOKENS,
    NUM_PROMPTS,
    NUM_SAMPLES,
    PAIRS,
    PPO_PROMPTS,
    SMALL,
    demonstrations,
    pairs,
    prompts,
)

PACKAGE = "benchmarks.throughput"
ON_RAY = "ours, Ray actors"
FEW_TOKENS = 4

Side = Literal["ours", "ours too", "peer", "peer too"]
"""`ours` and `peer`: as their defaults have it. The others are compared only where the best of both sides are."""


@dataclass(frozen=True)
class Entry:
    """A contender of a measure: the module that is run and the task it is given."""

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
    figure: str | None = None
    """What is taken for the seconds, of the figures a contender reports; the whole step where absent."""
    rounds: int = 7
    short: bool = True
    """Whether the short form has it: one round, after the warm-up."""
    big_model: bool = False


def _ours(measure: str, name: str = "ours", side: Side = "ours", *, short: bool = True, **changes: Any) -> Entry:
    """`changes` to the recipe: dotted keys with `__` for the dot, and `rows` for another file of prompts."""
    rows = changes.pop("rows", None)
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return Entry(name, side, f"{PACKAGE}.ours", {"measure": measure, "rows": rows, "overrides": overrides}, short)


def _trl(measure: str, name: str = "TRL", side: Side = "peer", *, short: bool = True, **arguments: Any) -> Entry:
    """`arguments` of the trainer's config."""
    environment = VLLM_ENVIRONMENT if arguments.get("use_vllm") else {}
    task = {"measure": measure, "arguments": arguments}
    return Entry(name, side, f"{PACKAGE}.trl_trainers", task, short, environment=environment)


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
        "sft", "tokens/s", sum(lengths), flops.train_rows(SMALL, lengths),
        ratio="sft_vs_trl", best_ratio="sft_vs_trl_best",
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
    by_length = _by_length(PAIRS, 4) | {"remove_unused_columns": False}  # else the column of lengths is among them
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
            _trl(name, "TRL, by length", "peer too", short=False, **by_length),
            _trl(name, "TRL, by length, bfloat16", "peer too", short=False, bf16=True, **by_length),
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
            _ours("grpo", ON_RAY, "ours too", short=False, runtime__type="ray"),
            _trl("grpo"),
            _trl("grpo", "TRL as shipped", "peer too", **_AS_SHIPPED),
            _trl("grpo", "TRL, bfloat16", "peer too", short=False, bf16=True),
            _trl("grpo", "TRL, vLLM in process", "peer too", short=False, use_vllm=True, vllm_mode="colocate"),
        ),
    )  # fmt: skip


def starters(*, short: bool) -> tuple[Entry, ...]:
    """The GRPO measure with steps of few tokens, of which the start is most."""
    return (
        _ours("grpo", rollout__max_tokens=FEW_TOKENS),
        *([] if short else [_ours("grpo", ON_RAY, "ours too", runtime__type="ray", rollout__max_tokens=FEW_TOKENS)]),
        _trl("grpo", max_completion_length=FEW_TOKENS),
    )


def _ppo() -> Measure:
    lengths = [prompt for (prompt,) in prompts(PPO_PROMPTS).lengths]
    rows = [prompt + NEW_TOKENS for prompt in lengths]
    scored = flops.score_rows(SMALL, rows) + 2 * flops.score_rows(SMALL, rows, head=False)
    trained = flops.train_rows(SMALL, rows) + flops.train_rows(SMALL, rows, head=False)
    return Measure(
        "ppo", "samples/s", PPO_PROMPTS, flops.generate(SMALL, lengths, 1, NEW_TOKENS) + scored + trained,
        ratio="ppo_vs_trl", copied_bytes=4 * SMALL.parameters, rounds=4,
        entries=(
            _ours("ppo"),
            _ours("ppo", "ours, bfloat16", "ours too", short=False, model__dtype="bfloat16"),
            Entry("TRL 1.12", "peer", f"{PACKAGE}.trl_ppo", {}, peers_folder=True),
        ),
    )  # fmt: skip


def _rollouts() -> Iterator[Measure]:
    """Ours in both engines against the same raw, for groups of samples and for distinct prompts."""
    for suffix, name, num, samples in (("", "prompts", NUM_PROMPTS, NUM_SAMPLES), ("_distinct", "distinct", 64, 1)):
        lengths = [prompt for (prompt,) in prompts(num).lengths]
        work = flops.generate(SMALL, lengths, samples, NEW_TOKENS)
        tokens = num * samples * NEW_TOKENS
        ask: dict[str, Any] = {
            "rows": name,
            "algorithm__prompts_per_step": num,
            "algorithm__samples_per_prompt": samples,
        }
        raw: dict[str, Any] = {"prompts": name, "samples": samples}
        engine: dict[str, Any] = {"rollout__engine": {"type": "transformers"}}
        yield Measure(
            f"rollout{suffix}", "tokens/s", tokens, work, ratio=f"rollout{suffix}_vs_generate",
            short=not suffix,
            entries=(
                _ours("rollout", **engine, **ask),
                _ours("rollout", "ours, bfloat16", "ours too", short=False, model__dtype="bfloat16", **engine, **ask),
                Entry("transformers generate", "peer", f"{PACKAGE}.generation", {"kind": "transformers", **raw}),
            ),
        )  # fmt: skip
        engine = {"rollout__engine": {"type": "vllm"}, "runtime__type": "ray"}
        yield Measure(
            f"rollout_vllm{suffix}", "tokens/s", tokens, work, ratio=f"rollout{suffix}_vs_raw_vllm",
            short=not suffix,
            entries=(
                _ours("rollout", "ours, vLLM actor", **engine, **ask),
                Entry("raw vLLM", "peer", f"{PACKAGE}.generation", {"kind": "vllm", **raw}),
            ),
        )  # fmt: skip


def _handover(name: str, ratio: str, runtime: str, *, short: bool) -> Measure:
    """One engine is given the weights of a 100 M-parameter policy, against one memory copy of their bytes."""
    num_bytes = 4 * HUNDRED_MILLION.parameters
    return Measure(
        name, "GB/s", num_bytes / 1e9, 0, ratio=ratio, copied_bytes=num_bytes, figure="time/sync", big_model=True,
        short=short,
        entries=(
            _ours("handover", runtime__type=runtime),
            Entry("memory copy", "peer", f"{PACKAGE}.memory", {"kind": "copy"}),
        ),
    )  # fmt: skip


def measures() -> tuple[Measure, ...]:
    """All of them, in the order they run."""
    return (
        _grpo(),
        _sft(),
        _preference("reward"),
        _preference("dpo"),
        _ppo(),
        *_rollouts(),
        _handover("handover", "handover_vs_copy", "inline", short=True),
        _handover("handover_ray", "handover_ray_vs_copy", "ray", short=False),
    )
