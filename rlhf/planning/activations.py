"""Memory that a micro-batch needs while it is computed on, read off a run on tensors that hold nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlhf.errors import ConfigError
from rlhf.planning.network import config_from
from rlhf.planning.replica import Work, build, run_forward


@dataclass(frozen=True)
class Activations:
    """Bytes besides weights, gradients and optimizer state."""

    kept: float
    """What the forward pass leaves behind for the backward pass."""
    forward: float
    """At most, in that forward pass; under autocast it holds every trained weight a second time, in the low format."""
    backward: float
    """At most, in the backward pass; a gradient stands twice until it is added to what earlier micro-batches left."""
    scoring: float
    """At most, in a forward pass without gradients."""
    small: float
    """At most in training, in blocks of less than 32 MiB."""

    @property
    def training(self) -> float:
        """At most, over both passes."""
        return max(self.forward, self.backward)


@lru_cache(maxsize=256)
def activations(work: Work) -> Activations:
    """Of this work. Layers are alike, so few are run, and the rest is what one more of them adds.

    Raises `ConfigError` where the network cannot be run without its numbers.
    """
    whole, few = work.network.layers, _period(work)
    if whole <= 3 * few:
        return Activations(*_traced(work, whole))
    fewer, more = _traced(work, 2 * few), _traced(work, 3 * few)  # a first layer is not yet like the others
    rest = (whole - 2 * few) / few
    return Activations(*(first + (second - first) * rest for first, second in zip(fewer, more, strict=True)))


def _period(work: Work) -> int:
    """After how many layers the kinds of layers come again."""
    kinds = getattr(config_from(work.network.config_json).get_text_config(), "layer_types", None)
    if not kinds:
        return 1
    return next(p for p in range(1, len(kinds) + 1) if all(kinds[i] == kinds[i % p] for i in range(len(kinds))))


def _traced(work: Work, layers: int) -> tuple[float, ...]:
    """kept, forward, backward, scoring, small."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
            network = build(work, layers)
            scoring = _peak_of_scoring(network, work)
            kept, forward, backward, small = _of_training(network, work) if work.trains else (0.0, 0.0, 0.0, 0.0)
            return kept, forward, backward, scoring, small
    except (NotImplementedError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise ConfigError(
            f"model: {work.network.source} cannot be planned: {reason[0] if reason else type(error).__name__}"
        ) from error


def _peak_of_scoring(network: Any, work: Work) -> float:
    import torch

    from rlhf.planning.live_bytes import LiveBytes

    with torch.no_grad(), LiveBytes(_standing(network)) as live:
        run_forward(network, work)
    return float(live.peak)


def _of_training(network: Any, work: Work) -> tuple[float, float, float, float]:
    from rlhf.planning.live_bytes import LiveBytes

    with LiveBytes(_standing(network)) as live:
        total = run_forward(network, work)
        kept, forward, small = live.now, live.peak, live.small_peak
        live.restart()
        total.backward()  # type: ignore[no-untyped-call]
    return float(kept), float(forward), float(live.peak), float(max(small, live.small_peak))


def _standing(network: Any) -> list[Any]:
    parameters = list(network.parameters())
    return [*parameters, *network.buffers(), *(p.grad for p in parameters if p.grad is not None)]
