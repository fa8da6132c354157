"""A run's figures beside Ray's own, at the address where each Ray node answers Prometheus."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pydantic import Field

from rlhf.config import PartConfig
from rlhf.types import Metrics

RECIPE_NAME = "recipe.yaml"  # in the folder of a run, before any tracker is opened
PREFIX = "rlhf_"
_TAGS = ("run", "stage")
_STEP = "step"
_LEFT_OUT = "metrics_left_out"


class PrometheusConfig(PartConfig):
    """What is published."""

    max_metrics: int = Field(default=300, ge=1)
    """Names published at most. A plugin may make up names without end, and each is kept by a Prometheus for weeks."""


class Prometheus:
    """Gauges of the newest step, by Ray's metrics agent: `reward/mean` as `ray_rlhf_reward_mean{run, stage}`.

    A run of one stage has its own name in both. Needs the runtime `ray` on a cluster that serves metrics (`pip install
    'ray[default]'`); how a Prometheus finds its nodes says clusters/README.md. Names beyond `max_metrics`, and those
    that differ from another only in characters Prometheus does not know, are left out and counted as
    `rlhf_metrics_left_out`.
    """

    def __init__(self, config: PrometheusConfig, folder: Path) -> None:
        self._most = config.max_metrics
        # A run of one stage has one folder for both.
        run = folder if (folder / RECIPE_NAME).is_file() else folder.parent
        self._tags = {"run": run.name, "stage": folder.name}
        self._gauges: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        """The metric that has each of Prometheus' names."""
        self._left_out: set[str] = set()

    def log(self, step: int, metrics: Metrics) -> None:
        _require_ray()
        self._set(_STEP, float(step))
        for name, value in metrics.items():
            if self._has_name(name):
                self._set(prometheus_name(name), value)
        self._set(_LEFT_OUT, float(len(self._left_out)))

    def close(self) -> None:
        """Nothing is held back, and Ray forgets the gauges of a process that has ended."""

    def _has_name(self, metric: str) -> bool:
        name = prometheus_name(metric)
        is_new = name not in self._names and len(self._names) < self._most and name not in (_STEP, _LEFT_OUT)
        if is_new:
            self._names[name] = metric
        if self._names.get(name) == metric:
            return True
        if len(self._left_out) < self._most:  # the count of what is left out is bounded as well
            self._left_out.add(metric)
        return False

    def _set(self, name: str, value: float) -> None:
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            self._gauges[name] = Gauge(PREFIX + name, description=f"rlhf: {name}", tag_keys=_TAGS)
        # A figure that is none shows as a gap, and not as the last one that was.
        self._gauges[name].set(value if math.isfinite(value) else math.nan, tags=self._tags)


def prometheus_name(metric: str) -> str:
    """The name without the prefix: letters, digits and underscores."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", metric)


def _require_ray() -> None:
    """Raises where no Ray is up: what gauges are then told goes nowhere, and nobody would hear of it."""
    import ray

    if not ray.is_initialized():
        raise RuntimeError("it publishes through Ray, and this run is without (runtime.type: inline)")
