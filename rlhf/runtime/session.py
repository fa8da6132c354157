"""A Ray cluster for as long as a run: a private one on this machine, or a running one by its address."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from rlhf.errors import ResourceError
from rlhf.recipe import RuntimeConfig
from rlhf.runtime.private_cluster import start_private_cluster


@contextmanager
def ray_session(runtime: RuntimeConfig, *, object_store_memory: int | None = None) -> Iterator[None]:
    """Start or join Ray; leave it as it was found. A private cluster, whose object store may be given in bytes, is
    gone with all its processes afterwards.
    """
    if ray.is_initialized():
        yield
        return
    if runtime.address is None:
        start_private_cluster(object_store_memory=object_store_memory)
    else:
        _join(runtime.address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, socket.gaierror) as error:
        raise ResourceError(f"runtime.address: no Ray cluster answers at {address!r}: {error}") from error


def _knock(address: str) -> None:
    """Open and close a connection where the address names a port: Ray itself goes on trying for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
