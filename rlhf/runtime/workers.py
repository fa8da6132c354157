"""The actors that hold models. Each loads the run's plugins from plain data before anything that refers to them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray

from rlhf.config import ModelConfig, Part, RoleSpec
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.runtime.engine_choice import built_rollout
from rlhf.runtime.groups import in_buckets, unpacked
from rlhf.runtime.lane import streamed
from rlhf.types import Completion, Fingerprint, Prompt, Sampling


class _Worker:
    """What both kinds do first. Constructor arguments are unpickled before `__init__` runs, so they are plain data."""

    def __init__(self, plugins: dict[str, Any], environment: dict[str, str]) -> None:
        os.environ.update(environment)
        import torch

        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
        self._plugins = load_plugins(PluginSettings.model_validate(plugins))
        self._engine: Any = None

    def fingerprints(self) -> dict[str, str]:
        """Of this process's plugins, for the driver to compare."""
        return self._plugins.fingerprints()

    def pid(self) -> int:
        return os.getpid()

    def rendezvous(self) -> tuple[str, int]:
        """An address of this node and a free port, for the ranks of a group to meet at."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def fingerprints_of_weights(self) -> dict[str, Fingerprint] | None:
        """Of the engine's weights; None where it is a guest that tells none."""
        told = getattr(self._engine, "fingerprints", None)
        return None if told is None else dict(told())


class Slice(NamedTuple):
    """What a rollout engine has brought to an end in a while."""

    ended: list[tuple[int, list[Completion]]]
    goes_on: bool


_SLICE_SECONDS = 0.5
"""Long, so that asking anew costs nothing; short, so that rewards and new weights need not wait."""


@ray.remote
class EngineWorker(_Worker):
    """One rank of a train engine."""

    def build(self, part: Part, spec: RoleSpec, ranks: Mapping[str, str]) -> None:
        """Build the engine; `ranks` is RANK, WORLD_SIZE, MASTER_ADDR, ... as torch.distributed reads them."""
        os.environ.update(ranks)
        self._engine = self._plugins.registry.build("train_engine", part.type, part.options, spec)

    def forward(self, batch: Any, keep: bool) -> Any:
        """Output of the global batch; every rank computes its rows, one sends the whole back."""
        output = self._engine.forward(batch)
        return output if keep else None

    def base_forward(self, batch: Any, keep: bool) -> Any:
        output = self._engine.base_forward(batch)
        return output if keep else None

    def train_step(self, batch: Any, loss_fn: Any) -> dict[str, float]:
        metrics: dict[str, float] = self._engine.train_step(batch, loss_fn)
        return metrics

    def weights(self, keep: bool, base: bool) -> Iterator[list[tuple[str, Any]]]:
        """Full weights on CPU, bucket by bucket; every rank takes part in gathering them, one keeps them."""
        gathered = self._engine.weights() if base else self._engine.weights(base=False)
        if keep:
            yield from in_buckets((name, _apart(tensor.detach().cpu())) for name, tensor in gathered)
        for _ in gathered:
            pass

    def export(self, path: Path) -> None:
        self._engine.export(path)

    def save(self, path: Path) -> None:
        self._engine.save(path)

    def load(self, path: Path) -> None:
        self._engine.load(path)

    def sleep(self) -> None:
        """A guest may have neither this nor `wake`, and keeps its memory."""
        getattr(self._engine, "sleep", lambda: None)()

    def wake(self) -> None:
        getattr(self._engine, "wake", lambda: None)()


@ray.remote
class RolloutWorker(_Worker):
    """One rollout engine."""

    def build(self, part: Part, model: ModelConfig, on_gpu: Mapping[str, Any] | None = None) -> str | None:
        """Build the engine; for `auto`, a line that says which. `on_gpu`: see `built_rollout`."""
        self._engine, choice = built_rollout(part, model, self._plugins.registry, on_gpu)
        return choice

    def begin(self, prompts: Sequence[Prompt], sampling: Sampling) -> Slice:
        """Begin to write, and drop what was being written."""
        self._writing = streamed(self._engine, prompts, sampling)
        return self.go_on()

    def go_on(self) -> Slice:
        """Write for a while: between two such calls come new weights, and out what has ended."""
        ended: list[tuple[int, list[Completion]]] = []
        until = time.monotonic() + _SLICE_SECONDS
        for ended_at_once in self._writing:
            ended += ended_at_once
            if time.monotonic() > until:
                return Slice(ended, goes_on=True)
        return Slice(ended, goes_on=False)

    def renew(self, buckets: Sequence[Any], version: int) -> dict[str, Fingerprint] | None:
        """Load weights, and tell what the engine holds now."""
        self.load_weights(buckets, version)
        return self.fingerprints_of_weights()

    def load_weights(self, buckets: Sequence[Any], version: int) -> None:
        """Weights by references to buckets of them."""
        self._engine.load_weights(unpacked(buckets), version)

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()


def _apart(tensor: Any) -> Any:
    """A tensor that is sent without its neighbours: DeepSpeed's are views of one buffer, which would go with each."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
