"""Ray on this machine for as long as somebody serves, reachable from this machine alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray


@contextmanager
def private_ray() -> Iterator[None]:
    """Start Ray; gone with all its processes afterwards. In the main thread, for Ray sets handlers of signals.

    That it listens on 127.0.0.1 alone is set where this package is first imported.
    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    was_there = token.exists()
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        if not was_there and token.is_file():
            token.chmod(0o600)  # Ray writes it for all to read
        yield
    finally:
        ray.shutdown()
