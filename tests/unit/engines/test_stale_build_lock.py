"""A lock left by a killed process must not stop every later start; one that is in use must stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rlhf.engines.processes import _remove_stale_build_lock


@pytest.mark.parametrize(("age_s", "stays"), [(3600, False), (5, True)])
def test_only_an_old_lock_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: int, stays: bool) -> None:
    lock = tmp_path / "py311_cpu" / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    made = time.time() - age_s
    os.utime(lock, (made, made))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    _remove_stale_build_lock()
    assert lock.exists() == stays
