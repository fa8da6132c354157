"""A Ray cluster for as long as a run: a private one on this machine, or a running one by its address."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private import ray_constants

from rlhf.errors import ResourceError
from rlhf.recipe import RuntimeConfig


@contextmanager
def ray_session(runtime: RuntimeConfig) -> Iterator[None]:
    """Start or join Ray; leave it as it was found. A private cluster is gone, with all its processes, afterwards."""
    if ray.is_initialized():
        yield
        return
    try:
        if runtime.address is None:
            _listen_on_loopback()
            with _private_token():
                ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _knock(runtime.address)
            ray.init(address=runtime.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, socket.gaierror) as error:
        raise ResourceError(f"runtime.address: no Ray cluster answers at {runtime.address!r}: {error}") from error
    except Exception as error:
        if "timed out during startup" not in str(error):  # Ray has no class of its own for it, and waits for 30 s
            raise
        raise ResourceError(
            "Ray did not start within 30 s: this machine is busy with something else (see its load), or Ray's own logs "
            "in /tmp/ray/session_latest/logs say why; try again, or run without it: --runtime inline"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _listen_on_loopback() -> None:
    """Ray's processes listen on 127.0.0.1 alone.

    On Linux Ray 2.60 opens them to the network, and takes `_node_ip_address="127.0.0.1"` for the machine's own address;
    on macOS this switch is off by itself.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for the processes it starts
    ray_constants.ENABLE_RAY_CLUSTER = False


@contextmanager
def _private_token() -> Iterator[None]:
    """The token by which Ray's processes know each other, which Ray writes for all to read, is its owner's alone."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    was_there = path.exists()
    yield
    if not was_there and path.is_file():
        path.chmod(0o600)


def _knock(address: str) -> None:
    """Open and close a connection where the address names a port: Ray itself goes on trying for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
