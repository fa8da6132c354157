"""A one-file plugin of rlhf: every step of a run waits for its turn; and what the measures need beside.

The mirror image of the callback that TRL's trainers get (`trl_trainers`): it waits before the first step and after
each. The two algorithms do one part of an iteration and nothing else, through the `Run` that every method uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from benchmarks.throughput.even_words import even_words
from benchmarks.throughput.turns import Turns
from rlhf import PartConfig, hookimpl
from rlhf.protocols import Algorithm, Run

_turns: list[Turns] = []


@hookimpl
def on_run_start() -> None:
    """Wait for the first turn. The pipes are opened here, on the driver: workers load this file too."""
    _turns.append(Turns.from_environment())
    if not _turns[0].ready():
        raise SystemExit(0)


@hookimpl
def on_step_end(metrics: dict[str, float]) -> None:
    """Report the step, with what the run measured of it, and wait for the next turn."""
    _turns[0].done(metrics=metrics)


@hookimpl
def should_stop() -> str | None:
    """The controller has had enough."""
    return None if _turns[0].going else "every turn has been taken"


class PartOfAnIterationConfig(PartConfig):
    """Options of both algorithms."""

    steps: int = Field(ge=1)
    prompts_per_step: int = Field(ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)


class _PartOfAnIteration(Algorithm):
    needs = frozenset({"policy", "rollout"})
    consumes = "prompts"

    def __init__(self, config: PartOfAnIterationConfig) -> None:
        self.config = config

    def num_steps(self, rows_per_epoch: int) -> int:
        return self.config.steps

    def measure(self, run: Run) -> Mapping[str, Sequence[float]]:
        return {}

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        return None


class OnlySampling(_PartOfAnIteration):
    """Samples."""

    def run(self, run: Run) -> None:
        for step, prompts in run.prompts(self.config.prompts_per_step):
            run.sample(prompts, self.config.samples_per_prompt)
            run.finish_step(step, {})


class OnlyHandover(_PartOfAnIteration):
    """Hands the policy's weights to the rollout engine."""

    def run(self, run: Run) -> None:
        for step, _ in run.prompts(self.config.prompts_per_step):
            run.publish_weights()
            run.finish_step(step, {})


@hookimpl
def register_rewards(register: Any) -> None:
    """`even_words`."""
    register("even_words", even_words)


@hookimpl
def register_algorithms(register: Any) -> None:
    """`only_sampling` and `only_handover`."""
    register("only_sampling", OnlySampling, config=PartOfAnIterationConfig)
    register("only_handover", OnlyHandover, config=PartOfAnIterationConfig)
