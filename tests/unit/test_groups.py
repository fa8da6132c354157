"""Tests that share processes or a file's fixtures stay on one of the workers of `make test`."""

from __future__ import annotations

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs every test")
def test_workers_see_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    # pytest-xdist 3.8 hands groups on in the name of a test, which pytest 9.2 no longer lets it change.
    assert request.node.nodeid.endswith("@" + __file__)
