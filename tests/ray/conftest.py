"""One small Ray cluster for the tests of a module: a run that finds Ray up joins it instead of starting its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from rlhf.recipe import RuntimeConfig


@pytest.fixture(scope="module")
def ray_up() -> Iterator[None]:
    """Ray with the cores of this machine."""
    from rlhf.runtime.session import ray_session

    with ray_session(RuntimeConfig(type="ray")):
        yield


@pytest.fixture(scope="module")
def ray_with_gpus() -> Iterator[None]:
    """Ray that counts two GPUs, which no machine needs to have: it hands out numbers, and torch sees none."""
    import ray

    from rlhf.runtime.session import ray_session

    ray.init(address="local", num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with ray_session(RuntimeConfig(type="ray")):
            yield
    finally:
        ray.shutdown()
