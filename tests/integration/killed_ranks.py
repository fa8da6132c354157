"""A run of two processes, as under Ray Train but without Ray: forked from one that has loaded the libraries, so that
killing it and starting it again costs no more than its steps.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlhf.types import Metrics, Rollout

RANKS = 2
_LOADED = ["deepspeed", "peft", "ray.train.torch", "rlhf.engines.deepspeed_engine", "rlhf.runtime.supervised", __name__]


def run_ranks(recipe: Mapping[str, Any], out: Path, *, resume: bool = False, kill_after: int = 0) -> list[int]:
    """Run the recipe's only stage in two processes; their exit codes. Both are killed once that step is logged."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out.mkdir(parents=True, exist_ok=True)
    ranks = [
        context.Process(target=_rank, args=(rank, port, dict(recipe), out, resume, kill_after), daemon=True)
        for rank in range(RANKS)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return [int(rank.exitcode or 0) for rank in ranks]


def _rank(rank: int, port: int, recipe: dict[str, Any], out: Path, resume: bool, kill_after: int) -> None:
    import torch

    from rlhf.plugins import load_plugins
    from rlhf.recipe import load_recipe
    from rlhf.runtime.inline import build_rollout
    from rlhf.runtime.live_run import LiveRun, Ranks
    from rlhf.runtime.plan import plan_stage
    from rlhf.runtime.stage import drive
    from rlhf.runtime.supervised import _agree, _barrier, _build_engines

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    (out / f"pid-{rank}").write_text(str(os.getpid()))
    loaded = load_recipe(recipe)
    (stage,) = loaded.stages
    plugins = load_plugins(loaded.plugins)
    plan = plan_stage(loaded, stage, plugins, out)
    engines = _build_engines(plan, plugins, RANKS)
    journal = _journal(loaded, plugins, plan, resume, kill_after) if rank == 0 else None
    rollout = build_rollout(plan, plugins, journal) if plan.samples else None  # type: ignore[arg-type]
    run = LiveRun(
        plan,
        plugins,
        engines,
        rollout,
        journal,
        ranks=Ranks(rank, _barrier, _agree),  # type: ignore[arg-type]
    )
    outcome = drive(run, resume=resume)
    if rank == 0:
        (out / "summary.json").write_text(json.dumps(asdict(outcome)))
    torch.distributed.destroy_process_group()


def _journal(loaded: Any, plugins: Any, plan: Any, resume: bool, kill_after: int) -> Any:
    """The driver's journal, which kills both processes when a step's lines are written and its checkpoint is not."""
    import sys

    from rlhf.runtime.journal import Directive, DriverJournal
    from rlhf.tracking.progress import progress_for

    class Journal(DriverJournal):
        def step(self, step: int, metrics: Metrics, rollouts: Sequence[Rollout]) -> Directive:
            directive = super().step(step, metrics, rollouts)
            if step == kill_after:
                for pid in (int((plan.folder / f"pid-{rank}").read_text()) for rank in reversed(range(RANKS))):
                    os.kill(pid, signal.SIGKILL)
            return directive

    saved = [int(path.name.removeprefix("step-")) for path in plan.folder.glob("checkpoints/step-*")] if resume else []
    progress = progress_for(sys.stderr)
    progress.start(plan.name, plan.num_steps, resumed_from=max(saved, default=0))
    return Journal(loaded, plugins, plan.name, plan.folder, progress, 1 + max(saved, default=0))
