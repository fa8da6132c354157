"""A plugin: engines that are struck by a signal in the midst of one of their calls, for tests of runs that are stopped.

In the folder of the option `strikes`, a file called ROLE.METHOD (`policy.train_step`, `rollout.generate`) says at which
call of its process, and with which signal: `3 15`; with `node` behind it, as in `3 9 node`, the signal goes to the
raylet of its node instead, whose end is the end of the node. It is gone when it has struck.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf import hookimpl
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig

METHODS = ("forward", "train_step", "save", "load", "export", "weights", "generate", "load_weights", "stream")


class Struck:
    """Another engine, whose calls are counted."""

    def __init__(self, engine: Any, role: str, strikes: str) -> None:
        self._engine, self._role, self._strikes = engine, role, Path(strikes)
        self._calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._engine, name)
        return self._counted(name, member) if name in METHODS else member

    def _counted(self, name: str, member: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._calls[name] = self._calls.get(name, 0) + 1
            strike(self._strikes / f"{self._role}.{name}", self._calls[name])
            return member(*arguments, **named)

        return call


def strike(mark: Path, call: int) -> None:
    """Send this process, or its node, the signal that is due."""
    if not mark.is_file():
        return
    due, number, *node = mark.read_text().split()
    if call == int(due):
        mark.unlink()
        os.kill(raylet() if node else os.getpid(), int(number))


def raylet() -> int:
    """The process that started this one and all others of the node."""
    parent = os.getppid()
    assert b"raylet" in Path("/proc", str(parent), "cmdline").read_bytes(), "not a worker of Ray"
    return parent


class StruckConfig(TorchConfig):
    strikes: str


class StruckRolloutConfig(TransformersRolloutConfig):
    strikes: str


def struck(config: StruckConfig, spec: Any) -> Struck:
    from rlhf.engines.torch_engine import TorchEngine

    return Struck(TorchEngine(config, spec), spec.role, config.strikes)


def struck_rollout(config: StruckRolloutConfig, model: Any) -> Struck:
    from rlhf.engines.transformers_rollout import TransformersRollout

    return Struck(TransformersRollout(config, model), "rollout", config.strikes)


@hookimpl
def register_train_engines(register: Any) -> None:
    register("struck", struck, config=StruckConfig)


@hookimpl
def register_rollout_engines(register: Any) -> None:
    register("struck_rollout", struck_rollout, config=StruckRolloutConfig)
