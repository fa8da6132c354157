"""Stages on Ray: actor groups for methods that sample, Ray Train for those that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rlhf.errors import ConfigError
from rlhf.plugins import Plugins, compare_fingerprints
from rlhf.protocols import RolloutEngine
from rlhf.recipe import Recipe
from rlhf.runtime.engine_choice import chosen_engine, vllm_on_gpu
from rlhf.runtime.groups import EngineGroup, results
from rlhf.runtime.inline import with_reference
from rlhf.runtime.journal import Journal
from rlhf.runtime.live_run import LiveRun
from rlhf.runtime.placement import placed, worker_resources
from rlhf.runtime.plan import StagePlan
from rlhf.runtime.reward_actors import RemoteRewardProcess
from rlhf.runtime.rollout_group import RolloutGroup
from rlhf.runtime.session import ray_session
from rlhf.runtime.sharing import take_turns
from rlhf.runtime.stage import StageOutcome, drive
from rlhf.runtime.supervised import run_supervised
from rlhf.runtime.threads import at_work, threads_for
from rlhf.runtime.workers import EngineWorker, RolloutWorker


@contextmanager
def ray_runner(recipe: Recipe, plugins: Plugins) -> Iterator[Callable[[StagePlan, Journal, bool], StageOutcome]]:
    """Ray up for as long as the run; yields what runs a stage on it."""
    with ray_session(recipe.runtime):

        def run_stage(plan: StagePlan, journal: Journal, resume: bool) -> StageOutcome:
            if plan.samples:
                return run_actors(plan, plugins, journal, resume=resume)
            return run_supervised(plan, plugins, journal, resume=resume)

        yield run_stage


def run_actors(plan: StagePlan, plugins: Plugins, journal: Journal, *, resume: bool) -> StageOutcome:
    """A group of actors for each role, one placement group for all; the algorithm runs here, on the driver."""
    roles = (*plan.specs, "rollout")
    resources = worker_resources(plan.runtime, roles, ray.cluster_resources())
    with placed(plan.runtime, resources) as (group, bundles):
        threads = threads_for(plan, int(ray.cluster_resources().get("CPU", 1)), at_work(plan))

        def spawn(actor: Any, role: str) -> list[Any]:
            share = resources[role]
            environment = {"OMP_NUM_THREADS": str(threads)}
            if not share.get("GPU"):
                environment["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves those of others in sight
            return [
                actor.options(
                    num_cpus=share.get("CPU", 0),
                    num_gpus=share.get("GPU", 0),
                    scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle),
                ).remote(plan.plugins.model_dump(), environment)
                for bundle in bundles[role]
            ]

        workers = {role: spawn(EngineWorker, role) for role in plan.specs} | {
            "rollout": spawn(RolloutWorker, "rollout")
        }
        try:
            _require_same_plugins(workers, plugins, plan.runtime.start_timeout)
            engines, rollout = _build(
                plan, workers, vllm_on_gpu(plan.runtime, resources["rollout"].get("GPU", 0)), journal
            )
            run = LiveRun(
                plan,
                plugins,
                with_reference(engines),
                rollout,
                journal,
                at_once=True,
                reward_starter=RemoteRewardProcess,
            )
            return drive(run, resume=resume)
        finally:
            for worker in (worker for members in workers.values() for worker in members):
                ray.kill(worker)


def _require_same_plugins(workers: dict[str, list[Any]], plugins: Plugins, timeout: float) -> None:
    """Wait for every worker and compare its plugins with the driver's."""
    mine = plugins.fingerprints()
    asked = {role: [worker.fingerprints.remote() for worker in members] for role, members in workers.items()}
    for role, references in asked.items():
        for rank, theirs in enumerate(results(references, role, timeout)):
            compare_fingerprints(mine, theirs, f"{role} worker {rank}")


def _build(
    plan: StagePlan, workers: dict[str, list[Any]], on_gpu: dict[str, Any], journal: Journal
) -> tuple[dict[str, Any], RolloutEngine]:
    """Every role's models, loaded at the same time where they are apart."""
    timeout, part = plan.runtime.start_timeout, plan.config.rollout.engine
    starting = [worker.build.remote(part, plan.config.model, on_gpu) for worker in workers["rollout"]]
    rollout = RolloutGroup(workers["rollout"], plan.config.rollout.timeout, journal.note)
    if plan.runtime.placement == "colocated":
        results(starting, "rollout", timeout)  # it counts on the memory that it finds free when it starts
        rollout.sleep()
    engines = _build_engines(plan, workers)
    _note_choice(results(starting, "rollout", timeout), journal)
    return take_turns(engines, rollout) if plan.runtime.placement == "colocated" else (engines, rollout)


def _build_engines(plan: StagePlan, workers: dict[str, list[Any]]) -> dict[str, Any]:
    started = {}
    for role, spec in plan.specs.items():
        part = chosen_engine(plan.engine, len(workers[role]), trained=spec.optimizer is not None)
        ranks = _ranks(workers[role])
        started[role] = [worker.build.remote(part, spec, ranks[rank]) for rank, worker in enumerate(workers[role])]
    for role, references in started.items():
        results(references, role, plan.runtime.start_timeout)
    return {role: EngineGroup(role, workers[role]) for role in plan.specs}


def _note_choice(choices: list[str | None], journal: Journal) -> None:
    """Say which engine `auto` is; refuse two kinds in one run, whose samples would not be those of either."""
    if len(set(choices)) > 1:
        raise ConfigError(f"{' but '.join(map(str, dict.fromkeys(choices)))} elsewhere; name one in rollout.engine")
    if choices[0] is not None:
        journal.note(choices[0])


def _ranks(members: list[Any]) -> list[dict[str, str]]:
    """What torch.distributed reads, for each member of a group."""
    address, port = ray.get(members[0].rendezvous.remote())
    shared = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(len(members))}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": "0"} for rank in range(len(members))]
