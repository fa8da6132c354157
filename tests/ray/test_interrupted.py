"""Ctrl-C and SIGTERM on Ray: the run saves, stops, says where, and goes on later as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import rlhf
from tests.integration.test_resume import interrupter, lines_of, stage
from tests.ray.watched_run import WatchedRun, error_of
from tests.tiny_runs import assert_same_weights, changed, pipeline

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = pipeline()
    del recipe["stages"]["ppo"]
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("models") / "run").folder


EVERY = pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="with RLHF_TEST_EVERY_METHOD=1")
CASES = [
    ("sft", signal.SIGTERM, 143),
    pytest.param("ppo", signal.SIGINT, 130, marks=EVERY),
    pytest.param("ppo", signal.SIGTERM, 143, marks=EVERY),
    pytest.param("sft", signal.SIGUSR1, 138, marks=EVERY),
]


@pytest.mark.parametrize(("name", "number", "code"), CASES)
def test_a_run_on_ray_goes_on_after_a_signal(
    name: str, number: signal.Signals, code: int, models: Path, tmp_path: Path
) -> None:
    whole = rlhf.train(stage(name, models), out=tmp_path / "whole")  # inline: the same weights, as another test shows
    # Slurm and `timeout` signal the whole process group: Ray's own processes have to outlive it.
    plugins = {"paths": [interrupter(tmp_path, 2, number, whole_group=True)]}
    recipe = changed(stage(name, models), {"runtime.type": "ray", "plugins": plugins})
    run = WatchedRun(recipe, tmp_path)
    exit_code, errors = run.finish(150)
    assert exit_code == code, errors
    assert error_of(errors).startswith(f"interrupted: stopped after step 2 of stage {name!r}; saved in "), errors
    assert "Traceback" not in errors
    assert run.left_behind() == {}
    again = WatchedRun(changed(recipe, {"runtime": {"type": "inline", "threads": 1}}), tmp_path, "--resume")
    exit_code, errors = again.finish(150)
    assert exit_code == 0, errors
    assert_same_weights(whole.model, tmp_path / "run" / "model")
    assert lines_of(tmp_path / "run") == lines_of(whole.folder)
