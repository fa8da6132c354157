"""A one-file plugin of rlhf: every step of a run waits for its turn; and the reward that both sides give.

The mirror image of the callback that TRL's trainers get (`trl_trainers`): it waits before the first step and after each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.throughput.even_words import even_words
from benchmarks.throughput.turns import Turns
from rlhf import hookimpl

_turns: list[Turns] = []


@hookimpl
def register_rewards(register: Any) -> None:
    """`even_words`."""
    register("even_words", even_words)


@hookimpl
def on_run_start(stage: str, recipe: dict[str, Any], folder: Path) -> None:
    """Wait for the first turn. The pipes are opened here, on the driver: workers load this file too."""
    _turns.append(Turns.from_environment())
    if not _turns[0].ready():
        raise SystemExit(0)


@hookimpl
def on_step_end(step: int, metrics: dict[str, float]) -> None:
    """Report the step, with what the run measured of it, and wait for the next turn."""
    _turns[0].done(metrics=metrics)


@hookimpl
def should_stop(step: int, metrics: dict[str, float]) -> str | None:
    return None if _turns[0].going else "every turn has been taken"
