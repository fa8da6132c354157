"""Where the replicas of Ray Serve listen."""

from __future__ import annotations

import importlib
from typing import Any


def answer_this_machine_only() -> None:
    """In a replica, before it is ready: Serve has each listen for the others, which here are on this machine.

    Serve 2.60 has no option for it: it binds `[::]:0` in `_on_initialized`, which follows the constructor. A later one
    that does so by another name makes this raise, and nothing is served.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
