"""Which checkpoints stay: the latest, the best, and one for each span of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rlhf.config import CheckpointConfig, KeepBestConfig
from rlhf.errors import ConfigError, nearest
from rlhf.runtime.checkpoints.manifest import Manifest


def kept(found: Iterable[Manifest], config: CheckpointConfig) -> set[int]:
    """Steps to keep of those there are."""
    in_order = sorted(found, key=lambda manifest: manifest.step)
    steps = {manifest.step for manifest in in_order[-config.keep :]}
    if config.keep_best is not None:
        steps |= _best(in_order, config.keep_best)
    if config.keep_every_hours:
        steps |= _spaced(in_order, 3600 * config.keep_every_hours)
    return steps


def _best(found: list[Manifest], best: KeepBestConfig) -> set[int]:
    """Of equals the later."""
    sign = 1 if best.mode == "max" else -1
    ranked = sorted((sign * m.metrics[best.metric], m.step) for m in found if best.metric in m.metrics)
    return {step for _, step in ranked[-best.count :]}


def _spaced(found: list[Manifest], seconds: float) -> set[int]:
    """The first, and each that was saved so much later than the last of these. A clock that was set back counts as if
    time had passed, which keeps one too many rather than one too few.
    """
    steps, last = set(), None
    for manifest in found:
        if last is None or abs(manifest.saved_at - last) >= seconds:
            steps.add(manifest.step)
            last = manifest.saved_at
    return steps


def require_metric(best: KeepBestConfig | None, metrics: Mapping[str, float]) -> None:
    """Refuse to look for the best by a figure that the stage does not log; found out when its first step ends."""
    if best is not None and best.metric not in metrics:
        raise ConfigError(
            f"checkpoint.keep_best.metric: this stage logs no {best.metric!r}.{nearest(best.metric, metrics)} It logs "
            f"{', '.join(sorted(metrics))}."
        )
