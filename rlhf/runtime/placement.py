"""Which process gets which share of the machine; refused at once where there is not enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from rlhf.errors import ResourceError
from rlhf.recipe import RuntimeConfig, WorkersConfig
from rlhf.runtime.plan import workers_of


def worker_resources(
    runtime: RuntimeConfig, roles: tuple[str, ...], cluster: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """CPU and GPU of each worker of each role; an equal share of the cluster where the recipe does not say."""
    workers = {role: workers_of(runtime, role) for role in roles}
    total = sum(w.num for w in workers.values())
    shares = {kind: _share(cluster.get(kind, 0.0), total) for kind in ("CPU", "GPU")}
    resources = {}
    for role, w in workers.items():
        wanted = {
            "CPU": shares["CPU"] if w.cpus is None else w.cpus,
            "GPU": shares["GPU"] if w.gpus is None else w.gpus,
        }
        resources[role] = {kind: amount for kind, amount in wanted.items() if amount > 0}
    _require(workers, resources, cluster)
    return resources


def _share(available: float, workers: int) -> float:
    """An equal share, at most one, rounded down to what Ray can account for."""
    return min(1.0, math.floor(available / workers * 1000) / 1000)


def _require(
    workers: Mapping[str, WorkersConfig], resources: Mapping[str, Mapping[str, float]], cluster: Mapping[str, float]
) -> None:
    for kind in ("CPU", "GPU"):
        needed = sum(workers[role].num * resources[role].get(kind, 0.0) for role in workers)
        available = cluster.get(kind, 0.0)
        if needed > available + 1e-6:
            who = ", ".join(f"{role} {w.num} x {resources[role].get(kind, 0.0):g}" for role, w in workers.items())
            raise ResourceError(
                f"runtime.workers: {needed:g} {kind}s needed ({who}), {available:g} available; ask for fewer workers "
                f"or a smaller share each (cpus, gpus)"
            )


@contextmanager
def placed(
    runtime: RuntimeConfig, resources: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[PlacementGroup, dict[str, list[int]]]]:
    """One placement group for the run, and the bundle of each worker of each role."""
    bundles: list[dict[str, float]] = []
    index: dict[str, list[int]] = {}
    for role, share in resources.items():
        for _ in range(workers_of(runtime, role).num):
            index.setdefault(role, []).append(len(bundles))
            bundles.append(dict(share))
    group: Any = placement_group(bundles, strategy="PACK")
    try:
        if not group.wait(runtime.start_timeout):
            raise no_place(bundles, runtime)
        yield group, index
    finally:
        remove_placement_group(group)


def no_place(bundles: Sequence[Mapping[str, float]], runtime: RuntimeConfig) -> ResourceError:
    """The error of a cluster that is large enough and has no room now."""
    free = {k: v for k, v in ray.available_resources().items() if k in ("CPU", "GPU")}
    return ResourceError(
        f"no place for {len(bundles)} workers within {runtime.start_timeout:g} s (runtime.start_timeout): "
        f"{[dict(bundle) for bundle in bundles]} needed, {free or 'nothing'} free; another run may hold the rest, or "
        "no single node fits a bundle"
    )
