"""Every method a shipped recipe names runs to its end, and takes the same steps on two DeepSpeed processes."""

from __future__ import annotations

import math
import pickle
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import rlhf
from rlhf.engines.torch_engine import TorchEngine
from rlhf.runtime.result import RunResult
from tests.integration.replay_worker import Recording, work
from tests.shrunk_recipes import methods, shrunk

pytestmark = [pytest.mark.slow, pytest.mark.deepspeed]  # together: the second half replays the first


@pytest.fixture(scope="module")
def recorded() -> Iterator[dict[int, Recording]]:
    """Whatever a torch engine is asked to do while a test runs, by engine."""
    recordings: dict[int, Recording] = {}
    original = TorchEngine.train_step

    def train_step(self: TorchEngine, batch: Any, loss_fn: Any) -> Any:
        recording = recordings.setdefault(id(self.spec), Recording(self.spec))
        metrics = original(self, batch, loss_fn)
        recording.steps.append((batch, loss_fn))
        recording.weights = {name: tensor.detach().clone() for name, tensor in self.weights()}
        return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchEngine, "train_step", train_step)
        yield recordings


class Runs:
    """Finished runs and the recordings of their last stages, each made when it is first asked for."""

    def __init__(self, folder: Path, recorded: dict[int, Recording]) -> None:
        self.folder = folder
        self.recorded = recorded
        self.done: dict[str, tuple[RunResult, list[Recording]]] = {}

    def of(self, name: str) -> tuple[RunResult, list[Recording]]:
        """A shipped recipe, shrunk and run."""
        if name not in self.done:
            self.recorded.clear()
            run = rlhf.train(shrunk(name), out=self.folder / name)
            last = str(run.model.parent.resolve())
            self.done[name] = (
                run,
                [recording for recording in self.recorded.values() if recording.spec.folder == last],
            )
        return self.done[name]


@pytest.fixture(scope="module")
def runs(recorded: dict[int, Recording], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), recorded)


@pytest.mark.parametrize("name", methods())
def test_it_runs_and_changes_the_model_it_is_about(runs: Runs, name: str) -> None:
    run, recordings = runs.of(name)
    assert (run.model / "config.json").is_file()
    assert recordings, "its last stage trained nothing"
    stage = run.summary["stages"][-1]
    figures = [value["mean"] for label in stage["held_out"].values() for value in label.values()]
    assert all(math.isfinite(figure) for figure in figures)
    assert all(math.isfinite(v) for row in run.metrics for v in row.values() if isinstance(v, float))


@pytest.fixture(scope="module")
def gaps(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, float]:
    """RECIPE.ROLE -> the largest difference of any weight after the same steps on two processes."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, (_, recordings) in runs.done.items():
        for recording in recordings:
            (folder / f"{name}.{recording.spec.role}.recording").write_bytes(pickle.dumps(recording))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(work, args=(2, port, str(folder)), nprocs=2)
    return {path.stem: float(path.read_text()) for path in folder.glob("*.gap")}


@pytest.mark.parametrize("name", methods())
def test_two_deepspeed_processes_take_the_same_steps(runs: Runs, gaps: Mapping[str, float], name: str) -> None:
    mine = {role: gap for role, gap in gaps.items() if role.startswith(f"{name}.")}
    assert name in runs.done, "the recipe did not run"
    assert mine
    assert all(gap < 1e-5 for gap in mine.values()), mine
