"""Workers that die or hang in the midst of their work: the run goes on, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import rlhf
from rlhf.errors import WorkerDied
from tests.integration.test_resume import lines_of, models, stage
from tests.integration.test_signals import PLUGIN
from tests.tiny_runs import Recipe, assert_same_weights, changed

__all__ = ["models"]  # a fixture
EVERY = pytest.mark.skipif(
    not os.environ.get("RLHF_TEST_EVERY_METHOD"),
    reason="minutes; with RLHF_TEST_EVERY_METHOD=1",
)
pytestmark = [pytest.mark.ray, pytest.mark.slow, EVERY]

KILL, STOP = int(signal.SIGKILL), int(signal.SIGSTOP)


def on_ray(recipe: Recipe, strikes: Path, **changes: object) -> Recipe:
    strikes.mkdir(exist_ok=True)
    struck = {
        "runtime.type": "ray",
        "engine": {"type": "struck", "strikes": str(strikes)},
        "plugins": {"paths": [PLUGIN]},
        "checkpoint": {"every": 1},
    }
    if recipe["algorithm"]["type"] == "ppo":
        struck["rollout.engine"] = {"type": "struck_rollout", "strikes": str(strikes)}
    return changed(recipe, struck | changes)


def figures(folder: Path) -> list[dict[str, object]]:
    """Metrics, but for those that tell of the losses themselves, and of log-probs whose last bit depends on which
    prompts an engine was given together.
    """
    told = ("run/restarts", "rollout/reissued", "checkpoint/failed", "rollout/logprob")
    return [{name: value for name, value in row.items() if not name.startswith(told)} for row in lines_of(folder)]


@pytest.mark.timeout(1200)
def test_ppo_goes_on_whoever_is_lost(
    ray_up: None, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = rlhf.train(stage("ppo", models), out=tmp_path / "whole")  # inline: Ray gives the same, another test shows
    strikes = tmp_path / "strikes"
    recipe = on_ray(stage("ppo", models), strikes, **{"runtime.call_timeout": 60.0, "runtime.workers.rollout.num": 2})
    (strikes / "reward.forward").write_text(f"2 {KILL}")
    (strikes / "reference.forward").write_text(f"3 {STOP}")
    (strikes / "rollout.stream").write_text(f"2 {KILL}")
    (strikes / "value.train_step").write_text(f"10 {KILL}")  # in the third step
    run = rlhf.train(recipe, out=tmp_path / "run")
    said = capsys.readouterr().err
    assert list(strikes.iterdir()) == []
    assert "reward worker 0 died: its process ended without a word" in said
    assert "it is replaced, and asked again" in said
    assert "reference worker 0 hangs: no answer to forward in 60 s (runtime.call_timeout); it is replaced" in said
    assert "value worker 0 died" in said
    assert "going on after step 2, the last that is saved (restart 1)" in said
    assert "rollout worker" in said
    assert figures(run.folder) == figures(whole.folder)
    assert [row["run/restarts"] for row in run.metrics] == [0, 0, 1, 1]
    assert_same_weights(whole.model, run.model)


def test_sft_goes_on_when_a_rank_is_lost(
    ray_up: None, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = rlhf.train(stage("sft", models), out=tmp_path / "whole")
    strikes = tmp_path / "strikes"
    recipe = on_ray(stage("sft", models), strikes)
    (strikes / "policy.train_step").write_text(f"4 {KILL}")
    run = rlhf.train(recipe, out=tmp_path / "run")
    assert "going on after step 3, the last that is saved (restart 1)" in capsys.readouterr().err
    assert figures(run.folder) == figures(whole.folder)
    assert_same_weights(whole.model, run.model)


def test_a_rank_that_hangs_is_named(ray_up: None, models: Path, tmp_path: Path) -> None:
    strikes = tmp_path / "strikes"
    limits = {"runtime.call_timeout": 40.0, "runtime.max_restarts": 0}
    recipe = on_ray(stage("sft", models), strikes, **limits)
    (strikes / "policy.train_step").write_text(f"4 {STOP}")
    with pytest.raises(WorkerDied, match=r"training worker 0 hangs: no step in 40 s .*no sign of life.*up to step 3"):
        rlhf.train(recipe, out=tmp_path / "run")
