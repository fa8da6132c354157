"""Ray on this machine for as long as somebody serves, reachable from this machine alone."""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any

import ray

from rlhf.errors import RunError
from rlhf.serving.settings import is_loopback


def start_ray() -> None:
    """Start Ray, which `ray.shutdown` ends with all its processes. Raises `RunError`.

    That it listens on 127.0.0.1 alone is set by `rlhf serve`, before Ray is imported.
    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    was_there = token.exists()
    try:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has no narrower one for a machine too busy to start in its 30 s
        raise RunError(f"Ray did not start: {str(error).strip()}") from error
    if not was_there and token.is_file():
        token.chmod(0o600)  # Ray writes it for all to read
    address = ray.util.get_node_ip_address()
    if not is_loopback(address):
        raise RunError(f"Ray's processes would listen at {address}: RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER should be 0")


def answer_this_machine_only() -> None:
    """In a replica, before it is ready: Serve has each listen for the others, which here are on this machine.

    Serve 2.60 has no option for it: it binds `[::]:0` in `_on_initialized`, which follows the constructor. A later one
    that does so by another name makes this raise, and nothing is served.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
