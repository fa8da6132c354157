"""Stages on Ray: actor groups for methods that sample, Ray Train for those that do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import ray

from rlhf.errors import ConfigError
from rlhf.plugins import Plugins
from rlhf.protocols import RolloutEngine
from rlhf.recipe import Recipe
from rlhf.runtime.cluster_losses import losses_watched
from rlhf.runtime.crew import Crew
from rlhf.runtime.groups import EngineGroup, results
from rlhf.runtime.inline import with_reference
from rlhf.runtime.interruption import Interruption
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


@contextmanager
def ray_runner(
    recipe: Recipe, plugins: Plugins, note: Callable[[str], None], way_back: str
) -> Iterator[Callable[[StagePlan, Journal, bool], StageOutcome]]:
    """Ray up for as long as the run; yields what runs a stage on it. `way_back`: how to go on with a run that ends."""
    joins, left = recipe.runtime.address is not None, threading.Event()

    def run_stage(plan: StagePlan, journal: Journal, resume: bool) -> StageOutcome:
        if plan.samples:
            return run_actors(plan, plugins, journal, resume=resume)
        return run_supervised(plan, plugins, journal, resume=resume)

    try:
        with ray_session(recipe.runtime), losses_watched(note, way_back, left) if joins else nullcontext():
            yield run_stage
    finally:
        left.set()


def run_actors(plan: StagePlan, plugins: Plugins, journal: Journal, *, resume: bool) -> StageOutcome:
    """A group of actors for each role, one placement group for all; the algorithm runs here, on the driver."""
    cluster = ray.cluster_resources()
    resources = worker_resources(plan.runtime, (*plan.specs, "rollout"), cluster)
    threads = threads_for(plan, int(cluster.get("CPU", 1)), at_work(plan))
    starting = Interruption.current()
    with (
        placed(plan.runtime, resources) as (group, bundles),
        Crew(plan, plugins, group, bundles, resources, threads) as crew,
    ):
        with starting.drops_this():
            crew.require_same_plugins()
            engines, rollout = _build(plan, crew, journal)
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


def _build(plan: StagePlan, crew: Crew, journal: Journal) -> tuple[dict[str, Any], RolloutEngine]:
    """Every role's models, loaded at the same time where they are apart."""
    timeout, colocated = plan.runtime.start_timeout, plan.runtime.placement == "colocated"
    starting = [crew.start_rollout(rank) for rank in range(len(crew.workers["rollout"]))]
    # A newcomer has neither the weights beneath adapters that travel alone, nor the memory that others sleep for.
    replace = None if colocated or plan.config.model.adapters_apart else crew.replace_rollout
    rollout = RolloutGroup(crew.workers["rollout"], plan.config.rollout.timeout, journal.note, replace)
    if colocated:
        results(starting, "rollout", timeout)  # it counts on the memory that it finds free when it starts
        rollout.sleep()
    started = {role: crew.start_engines(role) for role in plan.specs}
    for role, references in started.items():
        results(references, role, timeout)
    engines = {role: _engine(plan, crew, role, journal) for role in plan.specs}
    _note_choice(results(starting, "rollout", timeout), journal)
    return take_turns(engines, rollout) if colocated else (engines, rollout)


def _engine(plan: StagePlan, crew: Crew, role: str, journal: Journal) -> EngineGroup:
    learns = plan.specs[role].optimizer is not None
    replace = None if learns else partial(crew.replace_engines, role)
    return EngineGroup(role, crew.workers[role], plan.runtime.call_timeout, journal.note, replace)


def _note_choice(choices: list[str | None], journal: Journal) -> None:
    """Say which engine `auto` is; refuse two kinds in one run, whose samples would not be those of either."""
    if len(set(choices)) > 1:
        raise ConfigError(f"{' but '.join(map(str, dict.fromkeys(choices)))} elsewhere; name one in rollout.engine")
    if choices[0] is not None:
        journal.note(choices[0])
