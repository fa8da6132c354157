"""One small Ray cluster for the tests of a module: a run that finds Ray up joins it instead of starting its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlhf.recipe import RuntimeConfig


@pytest.fixture(scope="module")
def ray_up() -> Iterator[None]:
    """Ray with the cores of this machine."""
    from rlhf.runtime.session import ray_session

    with ray_session(RuntimeConfig(type="ray")):
        yield
