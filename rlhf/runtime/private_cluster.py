"""A Ray cluster of one's own on this machine, which only this machine and its owner reach."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services

from rlhf.errors import ResourceError

_LOOPBACK = "127.0.0.1"


def start_private_cluster(*, object_store_memory: int | None = None) -> None:
    """Start Ray, which `ray.shutdown` ends with all its processes. Raises `ResourceError` where it does not start."""
    _listen_on_loopback()
    try:
        with _private_token(), _apart_from_signals():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=object_store_memory,
            )
    except Exception as error:
        if "timed out during startup" not in str(error):  # Ray has no class of its own for it, and waits for 30 s
            raise
        raise ResourceError(
            "Ray did not start within 30 s: this machine is busy with something else (see its load), or Ray's own logs "
            "in /tmp/ray/session_latest/logs say why; try again"
        ) from error
    address = ray.util.get_node_ip_address()
    if address != _LOOPBACK:  # a later Ray that knows the switch by another name
        ray.shutdown()
        raise ResourceError(f"this version of Ray ({ray.__version__}) would listen at {address}, open to the network")


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


@contextmanager
def _apart_from_signals() -> Iterator[None]:
    """Ray's processes get a process group of their own.

    Slurm, `timeout` and a terminal signal the whole group. Ray itself shields its processes from SIGINT alone: with any
    other the run, which is to save before it leaves, would find its workers gone.
    """
    ordinary = services.ConsolePopen

    class Apart(ordinary):  # type: ignore[valid-type, misc]  # a class in a variable
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options, process_group=0)

    services.ConsolePopen = Apart  # type: ignore[misc]  # Ray has no option for it
    try:
        yield
    finally:
        services.ConsolePopen = ordinary  # type: ignore[misc]
