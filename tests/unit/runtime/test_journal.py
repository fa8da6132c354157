"""What the driver does at the end of a step, in which order, and when it says that a run should end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.plugins import PluginSettings, load_plugins
from rlhf.recipe import load_recipe
from rlhf.runtime.interruption import Interruption
from rlhf.runtime.journal import Directive, DriverJournal
from rlhf.runtime.mailbox import deliver
from rlhf.tracking.progress import progress_for
from rlhf.types import Completion, Prompt, Rollout
from tests.tiny_runs import SFT, single

PLUGIN = """
from rlhf import hookimpl

calls = []


@hookimpl
def on_rollouts(step, rollouts):
    calls.append(("on_rollouts", step, len(rollouts)))


@hookimpl
def on_step_end(step, metrics):
    metrics["spoilt"] = 1.0
    calls.append(("on_step_end", step))


@hookimpl
def should_stop(step, metrics):
    calls.append(("should_stop", step, "spoilt" in metrics))
    return "it is good enough" if metrics["reward/mean"] > 0.5 else None


@hookimpl
def on_checkpoint(step, path):
    calls.append(("on_checkpoint", step, path.name))
"""


class Noted:
    """Standard error, kept."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return False


class Scene:
    """A journal with a plugin that keeps what it was told."""

    def __init__(self, folder: Path) -> None:
        file = folder / "watcher.py"
        file.write_text(PLUGIN)
        plugins = load_plugins(PluginSettings(paths=(str(file),)))
        plugins.require_healthy()
        (watcher,) = (m for m in plugins.manager.get_plugins() if hasattr(m, "calls"))
        self.calls: list[tuple[object, ...]] = watcher.calls
        self.calls.clear()
        self.folder = folder
        self.noted = Noted()
        progress = progress_for(self.noted)  # type: ignore[arg-type]
        progress.start("ppo", 10)
        self.journal = DriverJournal(load_recipe(single(SFT)), plugins, "ppo", folder, progress, first_step=1)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.journal.close()


def rollout() -> Rollout:
    completion = Completion(token_ids=(1,), logprobs=(-1.0,), text="yes", finish_reason="stop")
    return Rollout(prompt=Prompt(id="p", text="well?"), completion=completion, reward=1.0)


def test_hooks_are_called_in_the_order_of_the_specification(scene: Scene) -> None:
    scene.journal.step(1, {"reward/mean": 0.1}, [rollout()])
    assert scene.calls == [("on_rollouts", 1, 1), ("on_step_end", 1), ("should_stop", 1, False)]


def test_a_step_without_samples_has_no_rollouts_to_show(scene: Scene) -> None:
    scene.journal.step(1, {"reward/mean": 0.1}, [])
    assert [call[0] for call in scene.calls] == ["on_step_end", "should_stop"]
    assert not (scene.folder / "samples.jsonl").exists() or not (scene.folder / "samples.jsonl").read_text()


def test_files_are_written_before_a_hook_can_fail(scene: Scene) -> None:
    scene.journal.step(1, {"reward/mean": 0.1}, [rollout()])
    (line,) = (scene.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["reward/mean"] == 0.1
    assert "spoilt" not in json.loads(line)
    assert "yes" in (scene.folder / "samples.jsonl").read_text()


def test_the_first_reason_to_stop_ends_the_stage_and_is_said(scene: Scene) -> None:
    assert scene.journal.step(1, {"reward/mean": 0.1}, []) is Directive.GO_ON
    assert scene.journal.step(2, {"reward/mean": 0.9}, []) is Directive.END
    assert "stopping after step 2: it is good enough" in scene.noted.text


def test_a_checkpoint_is_said_and_shown_to_hooks(scene: Scene) -> None:
    scene.journal.checkpoint(3, Path("run/checkpoints/step-3"))
    assert scene.calls == [("on_checkpoint", 3, "step-3")]
    assert "step-3" in scene.noted.text


def test_events_of_a_worker_reach_the_journal(scene: Scene) -> None:
    assert deliver(("step", (1, {"reward/mean": 0.9}, [])), scene.journal) is Directive.END
    assert deliver(("checkpoint", (1, Path("c/step-1"))), scene.journal) is Directive.GO_ON
    assert deliver(("note", ("hello",)), scene.journal) is Directive.GO_ON
    assert [call[0] for call in scene.calls] == ["on_step_end", "should_stop", "on_checkpoint"]
    assert "hello" in scene.noted.text


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_after_the_step_and_a_second_one_at_once(
    tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    notes: list[str] = []
    before = signal.getsignal(number)
    with Interruption.caught(notes.append) as interruption:
        scene = Scene(tmp_path)
        assert scene.journal.step(1, {"reward/mean": 0.0}, []) is Directive.GO_ON
        os.kill(os.getpid(), number)
        assert interruption.exit_code == exit_code
        # Even where a plugin would have ended the stage, for then nothing would be saved to go on from.
        assert scene.journal.step(2, {"reward/mean": 0.9}, []) is Directive.INTERRUPT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        scene.journal.close()
    assert signal.getsignal(number) is before
    assert notes == ["stopping, with a checkpoint; again to leave at once"]


def test_a_later_run_of_the_process_does_not_inherit_the_interruption(scene: Scene) -> None:
    with Interruption.caught(lambda _: None):
        os.kill(os.getpid(), signal.SIGINT)
    assert not Interruption.current().requested
