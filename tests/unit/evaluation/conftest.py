"""Run folders to report on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.evaluation.finished_run import make_run


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """A finished pipeline's folder."""
    return make_run(tmp_path / "quickstart")


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """The same of a pipeline with one stage, which draws fewer plots."""
    folder = make_run(tmp_path / "small")
    shutil.rmtree(folder / "reward")
    shutil.rmtree(folder / "ppo")
    return folder


@pytest.fixture
def make_finished_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_finished_run(name, seed, gain)`: another such folder."""
    return lambda name, seed=0, gain=1.0: make_run(tmp_path / name, seed, gain)
