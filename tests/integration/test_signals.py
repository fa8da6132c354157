"""A signal in any phase: the run saves what it has, leaves by the signal's exit code, and goes on later bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import rlhf
from rlhf.errors import Interrupted
from tests.integration.test_resume import lines_of, models, stage
from tests.tiny_runs import Recipe, assert_same_weights, changed

__all__ = ["models"]  # a fixture

PLUGIN = str(Path(__file__).with_name("struck_engines.py"))
STEPS = 4


@pytest.fixture
def strikes(tmp_path: Path) -> Path:
    folder = tmp_path / "strikes"
    folder.mkdir()
    return folder


def ppo(models: Path, strikes: Path) -> Recipe:
    """Four steps of two epochs with two updates each; measured before and after, saved after the second."""
    changes = {
        "engine": {"type": "struck", "strikes": str(strikes)},
        "rollout.engine": {"type": "struck_rollout", "strikes": str(strikes)},
        "plugins": {"paths": [PLUGIN]},
        "checkpoint": {"every": 2},
    }
    return changed(stage("ppo", models), changes)


@pytest.fixture(scope="module")
def whole(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    return rlhf.train(ppo(models, folder), out=folder / "run").folder


def steps_saved(run: Path) -> list[int]:
    return [int(path.parent.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*/manifest.json")]


# Where it strikes, at which call, and the step up to which the run is saved then. What learns is finished; what only
# samples and judges is dropped; the last step is followed by a measurement and by writing the model.
PHASES = {
    "before the first step": ("rollout.generate", 1, 0),
    "generating": ("rollout.generate", 3, 1),
    "scoring": ("reward.forward", 3, 1),
    "reading the reference": ("reference.forward", 3, 2),
    "updating the policy": ("policy.train_step", 6, 2),
    "updating the value model": ("value.train_step", 9, 3),
    "handing weights over": ("rollout.load_weights", 3, 3),
    "saving": ("value.save", 1, 2),
    "measuring after the last step": ("rollout.generate", 2 + STEPS, STEPS),
    "writing the model": ("policy.export", 1, 2),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_loses_nothing(
    phase: str, models: Path, whole: Path, strikes: Path, tmp_path: Path
) -> None:
    mark, call, saved = PHASES[phase]
    number = signal.SIGUSR1 if phase == "generating" else signal.SIGTERM
    (strikes / mark).write_text(f"{call} {int(number)}")
    with pytest.raises(Interrupted, match=r"stopped .*; continue with: rlhf train .*recipe.yaml --resume") as stop:
        rlhf.train(ppo(models, strikes), out=tmp_path / "run")
    assert stop.value.exit_code == 128 + number
    assert not (strikes / mark).exists()
    assert max(steps_saved(tmp_path / "run"), default=0) == saved
    assert not (tmp_path / "run" / "run.lock").exists()
    again = rlhf.train(tmp_path / "run" / "recipe.yaml", out=tmp_path / "run", resume=True)
    assert_same_weights(whole / "model", again.model)
    assert lines_of(whole) == lines_of(again.folder)
    assert (whole / "samples.jsonl").read_text() == (again.folder / "samples.jsonl").read_text()


def test_a_second_signal_leaves_at_once(models: Path, strikes: Path, tmp_path: Path) -> None:
    (strikes / "policy.train_step").write_text(f"5 {int(signal.SIGINT)}")
    (strikes / "value.train_step").write_text(f"5 {int(signal.SIGINT)}")
    with pytest.raises(KeyboardInterrupt):
        rlhf.train(ppo(models, strikes), out=tmp_path / "run")
    assert steps_saved(tmp_path / "run") == []
