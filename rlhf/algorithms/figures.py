"""Figures of several optimizer steps as those of one step of the run."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.types import Metrics


def mean_of(collected: Sequence[Metrics]) -> Metrics:
    """Mean of each figure over the updates that report it."""
    names = {name for metrics in collected for name in metrics}
    means: Metrics = {}
    for name in sorted(names):
        values = [metrics[name] for metrics in collected if name in metrics]
        means[name] = sum(values) / len(values)
    return means
