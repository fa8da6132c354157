"""Driving one stage: measure, run, measure again, write the model. The same inline, on actors and under Ray Train."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.errors import RunError, WorkerDied
from rlhf.evaluation.statistics import mean_of_groups
from rlhf.runtime.checkpoints import WRITE_FAILURES, publish, sync_tree
from rlhf.runtime.interruption import StepDropped
from rlhf.runtime.models import save_tokenizer

if TYPE_CHECKING:
    from rlhf.runtime.live_run import LiveRun


@dataclass(frozen=True)
class StageOutcome:
    """What a finished stage reports."""

    steps: int
    held_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`before` and `after`: figure -> {mean, low, high, n}, on held-out rows."""


def drive(run: LiveRun, *, resume: bool) -> StageOutcome:
    """Run the algorithm to its end and export the trained model."""
    try:
        done = run.resume() if resume else 0
        if not done:
            if run.rollout is not None and run.plan.config.model.is_quantized:
                run.publish_weights()  # what samples has read the weights as they were before they became four bits
            run.before = summarised(run.measure())
        run.algorithm.run(run)
        after = summarised(run.measure())
        export(run, run.plan.model_folder)
    except StepDropped:
        run.leave()
    finally:
        # Who asks twice to stop leaves at once.
        run.close(at_once=isinstance(sys.exception(), KeyboardInterrupt))
    held_out = {label: figures for label, figures in (("before", run.before), ("after", after)) if figures}
    return StageOutcome(steps=run.step, held_out=held_out)


def summarised(figures: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Mean and 95 % interval of each figure."""
    estimates = {name: mean_of_groups([values]) for name, values in figures.items() if values}
    return {
        name: {"mean": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
        for name, estimate in estimates.items()
    }


def export(run: LiveRun, path: Path) -> None:
    """Write the trained model where it is either whole or absent. Every rank calls it; the leading one moves it."""
    scratch = path.with_name(path.name + ".tmp")
    leads = run.ranks.rank == 0
    try:
        run.engines[run.plan.trained].export(scratch)
        if leads:
            save_tokenizer(run.encoder.tokenizer, scratch)
            sync_tree(scratch)
            publish(scratch, path)
    except WRITE_FAILURES as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, WorkerDied):
            raise
        raise RunError(f"the model could not be written to {path}: {error}") from error
    run.ranks.barrier()
