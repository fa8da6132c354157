"""Stages of one model under Ray Train: the same algorithm in every rank, each rank training on its share of a batch."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from rlhf.errors import Interrupted, RunError, UserError, WorkerDied
from rlhf.plugins import Plugins, compare_fingerprints, load_plugins
from rlhf.runtime.engine_choice import chosen_engine
from rlhf.runtime.inline import with_reference
from rlhf.runtime.interruption import Interruption
from rlhf.runtime.journal import Journal
from rlhf.runtime.live_run import LiveRun
from rlhf.runtime.mailbox import BEAT_SECONDS, Mailbox, PostedJournal, deliver, keep_beating
from rlhf.runtime.placement import no_place, worker_resources
from rlhf.runtime.plan import StagePlan, workers_of
from rlhf.runtime.ranks import Ranks
from rlhf.runtime.stage import StageOutcome, drive
from rlhf.runtime.threads import threads_for

_POLL_S = 0.2


def run_supervised(plan: StagePlan, plugins: Plugins, journal: Journal, *, resume: bool) -> StageOutcome:
    """Run the stage with `TorchTrainer`; the driver keeps the journal."""
    role = plan.trained
    cluster = ray.cluster_resources()
    share = worker_resources(plan.runtime, (role,), cluster)[role]
    num_workers = workers_of(plan.runtime, role).num
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(plan.runtime.start_timeout)
    if plan.runtime.address is None:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # how soon a finished worker is seen to be so
    mailbox = Mailbox.remote()  # type: ignore[attr-defined]
    trainer = TorchTrainer(
        train_rank,
        train_loop_config={
            "plan": plan,
            "resume": resume,
            "mailbox": mailbox,
            "fingerprints": plugins.fingerprints(),
            "threads": threads_for(plan, int(cluster.get("CPU", 1)), num_workers),
            "num_workers": num_workers,
        },
        torch_config=TorchConfig(backend="nccl" if share.get("GPU") else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu=bool(share.get("GPU")), resources_per_worker=share
        ),
        run_config=ray.train.RunConfig(
            name="ray_train",
            storage_path=str(plan.folder.resolve()),
            failure_config=FailureConfig(controller_failure_limit=0),  # or it waits for a place for ever
        ),
    )
    with ThreadPoolExecutor(max_workers=1) as thread:  # the driver's own thread is for journal, hooks and signals
        fit = thread.submit(trainer.fit)
        try:
            return _follow(fit, mailbox, journal, plan)
        except BaseException:
            while not fit.done():  # or the thread would be waited for until the stage is over
                _end(ray.get(mailbox.ranks.remote()))
                time.sleep(_POLL_S)
            raise
        finally:
            ray.kill(mailbox)


def _follow(fit: Future[Any], mailbox: Any, journal: Journal, plan: StagePlan) -> StageOutcome:
    """Answer the workers' events until they are done."""
    outcome: StageOutcome | None = None
    stopped: Interrupted | None = None
    interruption = Interruption.current()
    has_stepped, heard = False, time.monotonic()
    while True:
        event = ray.get(mailbox.take.remote())
        if event is None:
            if fit.done():
                break
            if interruption.requested and not has_stepped:
                raise Interrupted(f"stopped before a step of stage {plan.name!r} was done; there was nothing to save")
            _require_life(ray.get(mailbox.ranks.remote()), time.monotonic() - heard, plan.runtime.call_timeout)
            continue
        heard, has_stepped = time.monotonic(), has_stepped or event[0] == "step"
        if event[0] == "outcome":
            (outcome,) = event[1]
        if event[0] == "interrupted":
            stopped = Interrupted(*event[1])
        ray.get(mailbox.answer.remote(deliver(event, journal)))
    try:
        fit.result()
    except TrainingFailedError as error:
        raise _root_cause(error, plan) from None
    if stopped is not None:
        raise stopped
    if outcome is None:
        raise RunError("Ray Train ended without an error and without an outcome")
    return outcome


def _require_life(ranks: dict[int, tuple[Any, float]], silence: float, timeout: float) -> None:
    """Raise `WorkerDied`, naming who is not heard of, where the workers have reported nothing for too long."""
    if not ranks or silence <= timeout:
        return
    limit = f"no step in {timeout:g} s (runtime.call_timeout)"
    for rank, (_, unheard) in sorted(ranks.items()):
        if unheard > 5 * BEAT_SECONDS:
            raise WorkerDied(f"training worker {rank} hangs: {limit}, and no sign of life for {unheard:.0f} s")
    raise WorkerDied(f"the {len(ranks)} training workers hang: {limit}, though each of them is alive")


def _end(ranks: dict[int, tuple[Any, float]]) -> None:
    for worker, _ in ranks.values():
        ray.kill(worker)


def _root_cause(error: TrainingFailedError, plan: StagePlan) -> Exception:
    """Our own error where a worker raised one; a dead worker before its peers' broken connections."""
    if isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError):
        share = worker_resources(plan.runtime, (plan.trained,), ray.cluster_resources())[plan.trained]
        return no_place([share] * workers_of(plan.runtime, plan.trained).num, plan.runtime)
    failures = sorted(error.worker_failures.items()) if isinstance(error, WorkerGroupError) else []
    for _, failure in failures:
        cause = getattr(failure, "cause", None) or failure.__cause__ or failure
        for candidate in (failure, cause, getattr(failure, "base_exc", None)):
            if isinstance(candidate, RunError | UserError):
                return candidate
    for rank, failure in failures:
        if "died" in str(failure).lower() or "Actor" in type(failure).__name__:
            return WorkerDied(f"training worker {rank} died: {' '.join(str(failure).split())[:400]}")
    if failures:
        rank, failure = failures[0]
        return RunError(f"training worker {rank} failed: {' '.join(str(failure).split())[:400]}")
    return RunError(f"Ray Train failed: {' '.join(str(error).split())[:400]}")


# --- in the workers --------------------------------------------------------------------------------------------------


def train_rank(config: dict[str, Any]) -> None:
    """What every rank runs."""
    plan: StagePlan = config["plan"]
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    rank, num_ranks = context.get_world_rank(), context.get_world_size()
    plugins = load_plugins(plan.plugins)
    compare_fingerprints(config["fingerprints"], plugins.fingerprints(), f"training worker {rank}")
    keep_beating(config["mailbox"], rank)
    journal = PostedJournal(config["mailbox"])
    ranks = Ranks(rank=rank, barrier=_barrier, agree=_agree)
    run = LiveRun(plan, plugins, _build_engines(plan, plugins, num_ranks), None, journal, ranks=ranks)
    try:
        outcome = drive(run, resume=config["resume"])
    except Interrupted as stop:
        if rank == 0:
            journal.post("interrupted", str(stop))
        return
    if rank == 0:
        journal.post("outcome", outcome)


def _build_engines(plan: StagePlan, plugins: Plugins, num_ranks: int) -> dict[str, Any]:
    """This rank's part of every role: all roles of a supervised stage share its processes."""
    engines = {}
    for role, spec in plan.specs.items():
        part = chosen_engine(plan.engine, num_ranks, trained=spec.optimizer is not None)
        engines[role] = plugins.registry.build("train_engine", part.type, part.options, spec, where="engine")
    return with_reference(engines)


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def _agree(directive: int) -> int:
    """The leading rank's directive, in every rank."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return directive
    told = torch.tensor([directive])
    dist.broadcast(told, src=0)
    return int(told)
