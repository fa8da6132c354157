"""A run's figures beside Ray's own, at the address where each Ray node answers Prometheus."""

from __future__ import annotations

import math
import re
import threading
from pathlib import Path
from typing import Any

from rlhf.types import Metrics

RECIPE_NAME = "recipe.yaml"  # in the folder of a run, before any tracker is opened
PREFIX = "rlhf_"
MOST_METRICS = 300
"""Names of one stage: a plugin may make up names without end, and a Prometheus keeps each for weeks."""
REFRESH_S = 5.0
"""Ray 2.60 forgets a gauge that was not set for 20 s, which is less than many a step takes."""
_TAGS = ("run", "stage")
_STEP = "step"
_LEFT_OUT = "metrics_left_out"


class Prometheus:
    """Gauges of the newest step, by Ray's metrics agent: `reward/mean` as `ray_rlhf_reward_mean{run, stage}`.

    A run of one stage has its own name in both. Needs the runtime `ray` on a cluster that serves metrics (`pip install
    'ray[default]'`); how a Prometheus finds its nodes says clusters/README.md. Names beyond 300, and those
    that differ from another only in characters Prometheus does not know, are left out and counted as
    `rlhf_metrics_left_out`.
    """

    def __init__(self, config: None, folder: Path) -> None:
        # A run of one stage has one folder for both.
        run = folder if (folder / RECIPE_NAME).is_file() else folder.parent
        self._tags = {"run": run.name, "stage": folder.name}
        self._gauges: dict[str, Any] = {}
        self._newest: dict[str, float] = {}
        self._names: dict[str, str] = {}
        """The metric that has each of Prometheus' names."""
        self._left_out: set[str] = set()
        self._closed = threading.Event()
        self._refresher = threading.Thread(target=self._refresh, name="prometheus", daemon=True)

    def log(self, step: int, metrics: Metrics) -> None:
        _require_ray()
        newest = {_STEP: float(step)}
        for name, value in metrics.items():
            if self._has_name(name) and math.isfinite(value):  # one that is not shows as a gap
                newest[prometheus_name(name)] = value
        newest[_LEFT_OUT] = float(len(self._left_out))
        self._newest = newest
        self._publish()
        if not self._refresher.is_alive():
            self._refresher.start()

    def close(self) -> None:
        """What was published last can be read for a while yet."""
        self._closed.set()
        if self._refresher.is_alive():
            self._refresher.join()

    def _refresh(self) -> None:
        while not self._closed.wait(REFRESH_S) and _ray_is_up():
            self._publish()

    def _has_name(self, metric: str) -> bool:
        name = prometheus_name(metric)
        is_new = name not in self._names and len(self._names) < MOST_METRICS and name not in (_STEP, _LEFT_OUT)
        if is_new:
            self._names[name] = metric
        if self._names.get(name) == metric:
            return True
        if len(self._left_out) < MOST_METRICS:  # the count of what is left out is bounded as well
            self._left_out.add(metric)
        return False

    def _publish(self) -> None:
        from ray.util.metrics import Gauge

        for name, value in self._newest.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(PREFIX + name, description=f"rlhf: {name}", tag_keys=_TAGS)
            self._gauges[name].set(value, tags=self._tags)


def prometheus_name(metric: str) -> str:
    """The name without the prefix: letters, digits and underscores."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", metric)


def _require_ray() -> None:
    """Raises where no Ray is up: what gauges are then told goes nowhere, and nobody would hear of it."""
    if not _ray_is_up():
        raise RuntimeError("it publishes through Ray, and this run is without (runtime.type: inline)")


def _ray_is_up() -> bool:
    import ray

    return bool(ray.is_initialized())
