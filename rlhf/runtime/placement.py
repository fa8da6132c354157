"""Which process gets which share of the machine; refused at once where there is not enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from rlhf.errors import ResourceError
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.shares import bundles_of, worker_resources

__all__ = ["bundles_of", "no_place", "placed", "worker_resources"]


@contextmanager
def placed(
    runtime: RuntimeConfig, resources: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[PlacementGroup, dict[str, list[int]]]]:
    """One placement group for the run, and the bundle of each worker of each role."""
    bundles, index = bundles_of(runtime, resources)
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
        "no single node, or for a part of a GPU no single GPU, fits a bundle"
    )
