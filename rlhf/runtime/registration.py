"""The parts that live on Ray. Loading them does not load it."""

from __future__ import annotations

from rlhf.hookspecs import hookimpl
from rlhf.registry import Register
from rlhf.runtime.prometheus import Prometheus


@hookimpl
def register_trackers(register: Register) -> None:
    """`prometheus`."""
    register("prometheus", Prometheus)
