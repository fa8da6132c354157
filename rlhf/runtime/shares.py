"""What share of a machine each worker gets, worked out from plain numbers; Ray is not needed for that."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlhf.errors import ResourceError
from rlhf.recipe import RuntimeConfig, WorkersConfig
from rlhf.runtime.plan import workers_of

Share = dict[str, float]
"""Of one worker: amounts of CPU and GPU."""


def worker_resources(runtime: RuntimeConfig, roles: tuple[str, ...], cluster: Mapping[str, float]) -> dict[str, Share]:
    """CPU and GPU of each worker of each role; an equal share of the cluster where the recipe does not say.

    Where workers are colocated, an equal share of what others leave of the device that one of each role is on.
    """
    workers = {role: workers_of(runtime, role) for role in roles}
    total = sum(w.num for w in workers.values())
    equal = {kind: _share(cluster.get(kind, 0.0), total) for kind in ("CPU", "GPU")}
    if runtime.placement == "colocated":
        equal["GPU"] = _share_of_device(workers, cluster.get("GPU", 0.0))
    resources = {}
    for role, w in workers.items():
        wanted = {
            "CPU": equal["CPU"] if w.cpus is None else w.cpus,
            "GPU": equal["GPU"] if w.gpus is None else w.gpus,
        }
        # Ray accounts for four decimals; bundles are sums of what it accounts for.
        resources[role] = {kind: round(amount, 4) for kind, amount in wanted.items() if amount > 0}
    _require(workers, resources, cluster)
    return resources


def _share(available: float, workers: int) -> float:
    """An equal share, at most one, rounded down to what Ray can account for."""
    return min(1.0, math.floor(available / workers * 1000 + 1e-6) / 1000)


def _share_of_device(workers: Mapping[str, WorkersConfig], gpus: float) -> float:
    """What each role has of a device that the recipe does not say of."""
    device = _share(gpus, max(w.num for w in workers.values()))
    claimed = sum(w.gpus or 0.0 for w in workers.values())
    others = [role for role, w in workers.items() if w.gpus is None]
    if not others or not gpus:
        return 0.0
    share = _share(max(0.0, device - claimed), len(others))
    if not share:
        raise ResourceError(
            f"runtime.workers: {claimed:g} of the {device:g} GPUs for each place of colocated workers are taken, and "
            f"nothing is left for {', '.join(others)}; ask for fewer workers or a smaller share each (gpus)"
        )
    return share


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


def bundles_of(
    runtime: RuntimeConfig, resources: Mapping[str, Mapping[str, float]]
) -> tuple[list[Share], dict[str, list[int]]]:
    """What is reserved as one, on one node and, up to a whole GPU, on one device; and where each worker of a role goes.

    Apart, every worker has a bundle of its own. Colocated, one worker of each role shares it, as far as they go round.
    """
    bundles: list[Share] = []
    index: dict[str, list[int]] = {}
    for role, share in resources.items():
        num = workers_of(runtime, role).num
        start = 0 if runtime.placement == "colocated" else len(bundles)
        index[role] = list(range(start, start + num))
        bundles += [{} for _ in range(start + num - len(bundles))]
        for place in index[role]:
            for kind, amount in share.items():
                bundles[place][kind] = round(bundles[place].get(kind, 0.0) + amount, 4)
    return bundles, index
