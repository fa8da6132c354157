"""`kill -9` of a whole run on Ray, driver and workers, and a resume: all of it is as if nothing had happened, with ==.

Weights, optimizer tensors, figures, samples and what the last checkpoint says, for each method, ZeRO stage and number
format, with two processes that train. Runs share a cluster; those that are killed have a driver of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rlhf
from tests.exact_runs import CASES, KILLED_AFTER, STEPS, recipe, start_model
from tests.tiny_runs import Recipe, changed
from tests.whole_and_resumed import differences

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow]
EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))
"""Otherwise the same is shown without Ray, by tests/integration/test_bit_exact.py."""

KILLER = '''
"""Kills the run it is part of when a step's figures are written and its checkpoint is not: driver and workers."""

import os
import signal
from pathlib import Path

from rlhf import hookimpl


@hookimpl
def on_step_end(step, metrics):
    if os.environ.get("RLHF_TEST_KILL_AFTER") != str(step):
        return
    import ray

    mark = f"RAY_JOB_ID={ray.get_runtime_context().get_job_id()}".encode()
    for folder in Path("/proc").iterdir():
        try:
            mine = folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\\0")
        except OSError:
            continue
        if mine and int(folder.name) != os.getpid():
            os.kill(int(folder.name), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture(autouse=True)
def _without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its curves take longer than such a run, and are drawn from what is compared here."""
    monkeypatch.setattr("rlhf.runtime.pipeline.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return start_model(tmp_path_factory.mktemp("start"))


def killed(asked: Recipe, folder: Path) -> str:
    """A run in a process of its own, on this cluster, until it kills itself; the address of the cluster."""
    import ray

    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(asked, sort_keys=False))
    address: str = ray.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-m", "rlhf", "train", str(path), "--out", str(folder / "run"), "--address", address],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RLHF_TEST_KILL_AFTER": str(KILLED_AFTER)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len((folder / "run" / "metrics.jsonl").read_text().splitlines()) == KILLED_AFTER
    assert not (folder / "run" / "checkpoints" / f"step-{KILLED_AFTER}").exists()
    return address


@pytest.mark.skipif(not EVERY, reason="a minute each; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "stage", "dtype"), CASES)
def test_a_killed_run_goes_on_bit_for_bit(
    method: str, stage: int, dtype: str, start: str, ray_up: None, tmp_path: Path
) -> None:
    killer = tmp_path / "killer.py"
    killer.write_text(KILLER)
    asked = changed(recipe(method, stage, dtype, start), {"plugins": {"paths": [str(killer)]}})
    address = killed(asked, tmp_path)
    asked = changed(asked, {"runtime.address": address})
    rlhf.train(asked, out=tmp_path / "whole")
    rlhf.train(asked, out=tmp_path / "run", resume=True)
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == STEPS
    assert (tmp_path / "run" / "checkpoints" / f"step-{KILLED_AFTER}").is_dir()
