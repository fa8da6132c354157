"""The workers of a stage on Ray: each started on its place, and another in the place of one that is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rlhf.plugins import Plugins, compare_fingerprints
from rlhf.runtime.engine_choice import chosen_engine, vllm_on_gpu
from rlhf.runtime.groups import results
from rlhf.runtime.plan import StagePlan
from rlhf.runtime.shares import Share
from rlhf.runtime.workers import EngineWorker, RolloutWorker


class Crew:
    """One worker for each bundle of each role. Use as a context: they are gone afterwards."""

    def __init__(
        self,
        plan: StagePlan,
        plugins: Plugins,
        group: PlacementGroup,
        bundles: Mapping[str, list[int]],
        resources: Mapping[str, Share],
        threads: int,
    ) -> None:
        self._plan, self._plugins, self._group = plan, plugins, group
        self._bundles, self._resources, self._threads = bundles, resources, threads
        self.workers: dict[str, list[Any]] = {role: [] for role in bundles}

    def __enter__(self) -> Self:
        for role, places in self._bundles.items():
            self.workers[role] = [self._spawned(role, rank) for rank in range(len(places))]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (worker for members in self.workers.values() for worker in members):
            ray.kill(worker)

    def require_same_plugins(self) -> None:
        """Wait for every worker and compare its plugins with the driver's."""
        mine = self._plugins.fingerprints()
        asked = {role: [worker.fingerprints.remote() for worker in members] for role, members in self.workers.items()}
        for role, references in asked.items():
            for rank, theirs in enumerate(results(references, role, self._plan.runtime.start_timeout)):
                compare_fingerprints(mine, theirs, f"{role} worker {rank}")

    # --- engines -----------------------------------------------------------------------------------------------------

    def start_rollout(self, rank: int) -> Any:
        """The building of a rollout engine; a line that says which, where the recipe leaves it open."""
        on_gpu = vllm_on_gpu(self._plan.runtime, self._resources["rollout"].get("GPU", 0))
        config = self._plan.config
        return self.workers["rollout"][rank].build.remote(config.rollout.engine, config.model, on_gpu)

    def start_engines(self, role: str) -> list[Any]:
        """The building of a role's train engine, rank by rank."""
        spec, members = self._plan.specs[role], self.workers[role]
        part = chosen_engine(self._plan.engine, len(members), trained=spec.optimizer is not None)
        ranks = _ranks(role, members)
        return [worker.build.remote(part, spec, ranks[rank]) for rank, worker in enumerate(members)]

    # --- losses ------------------------------------------------------------------------------------------------------

    def replace_rollout(self, rank: int) -> tuple[Any, Any]:
        """A fresh worker in the place of one that is lost, and the building of its engine."""
        self._replace("rollout", rank)
        return self.workers["rollout"][rank], self.start_rollout(rank)

    def replace_engines(self, role: str) -> list[Any]:
        """Fresh workers for a role that learns nothing; their engines, once built, hold what the lost ones held."""
        for rank in range(len(self.workers[role])):
            self._replace(role, rank)
        results(self.start_engines(role), role, self._plan.runtime.start_timeout)
        return self.workers[role]

    def _replace(self, role: str, rank: int) -> None:
        ray.kill(self.workers[role][rank])
        self.workers[role][rank] = self._spawned(role, rank)

    def _spawned(self, role: str, rank: int) -> Any:
        actor: Any = RolloutWorker if role == "rollout" else EngineWorker
        share = self._resources[role]
        environment = {"OMP_NUM_THREADS": str(self._threads)}
        if not share.get("GPU"):
            environment["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves those of others in sight
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=self._bundles[role][rank])
        options = {"num_cpus": share.get("CPU", 0), "num_gpus": share.get("GPU", 0), "scheduling_strategy": place}
        return actor.options(**options).remote(self._plan.plugins.model_dump(), environment)


def _ranks(role: str, members: list[Any]) -> list[dict[str, str]]:
    """What torch.distributed reads, for each member of a group."""
    ((address, port),) = results([members[0].rendezvous.remote()], role)
    shared = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(len(members))}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": "0"} for rank in range(len(members))]
