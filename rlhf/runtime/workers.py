"""The actors that hold models. Each loads the run's plugins from plain data before anything that refers to them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from rlhf.config import ModelConfig, Part, RoleSpec
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.runtime.engine_choice import built_rollout
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

    def weights(self, keep: bool, base: bool) -> list[tuple[str, Any]]:
        """Full weights on CPU; every rank takes part in gathering them, one keeps them."""
        gathered = self._engine.weights() if base else self._engine.weights(base=False)
        if keep:
            return [(name, _apart(tensor.detach().cpu())) for name, tensor in gathered]
        for _ in gathered:
            pass
        return []

    def export(self, path: Path) -> None:
        self._engine.export(path)

    def save(self, path: Path) -> None:
        self._engine.save(path)

    def load(self, path: Path) -> None:
        self._engine.load(path)


@ray.remote
class RolloutWorker(_Worker):
    """One rollout engine."""

    def build(self, part: Part, model: ModelConfig) -> str | None:
        """Build the engine; for `auto`, a line that says which."""
        self._engine, choice = built_rollout(part, model, self._plugins.registry)
        return choice

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        completions: list[list[Completion]] = self._engine.generate(prompts, sampling)
        return completions

    def load_weights(self, weights: list[tuple[str, Any]], version: int) -> None:
        self._engine.load_weights(iter(weights), version)

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()


def _apart(tensor: Any) -> Any:
    """A tensor that is sent without its neighbours: DeepSpeed's are views of one buffer, which would go with each."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
