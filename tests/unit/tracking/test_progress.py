"""Progress: readable lines in a file, a live view in a terminal, and the figures a stage is judged by."""

from __future__ import annotations

import builtins
import importlib.util
import io
from pathlib import Path

import pytest
from rich.console import Console

from rlhf.tracking.key_metrics import KEY_METRICS, key_metrics
from rlhf.tracking.pace import Pace, duration_text, figure_text, rate_text
from rlhf.tracking.progress import progress_for
from rlhf.tracking.progress_live import LiveProgress
from rlhf.tracking.progress_plain import PlainProgress


class Clock:
    """A clock the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run_stage(progress: PlainProgress | LiveProgress, clock: Clock, steps: int, seconds: float) -> None:
    progress.start("ppo", steps)
    for step in range(1, steps + 1):
        clock.now += seconds
        progress.update(step, {"reward/mean": step / 10, "time/train": 1.0})
    progress.finish({"reward/mean": steps / 10})


def test_a_log_file_gets_first_last_and_a_line_now_and_then() -> None:
    clock, out = Clock(), io.StringIO()
    run_stage(PlainProgress(out, interval=5.0, clock=clock), clock, steps=20, seconds=1.0)
    lines = out.getvalue().splitlines()
    assert lines[0] == "[ppo] 20 steps"
    assert lines[1] == "[ppo] 1/20  reward/mean 0.1"
    assert lines[2] == "[ppo] 6/20  1.0 steps/s  14 s left  reward/mean 0.6"
    assert [line.split()[1] for line in lines[1:-1]] == ["1/20", "6/20", "11/20", "16/20", "20/20"]
    assert lines[-1] == "[ppo] done in 20 s  reward/mean 2"


def test_slow_steps_each_get_their_line() -> None:
    clock, out = Clock(), io.StringIO()
    run_stage(PlainProgress(out, interval=5.0, clock=clock), clock, steps=3, seconds=8.0)
    assert "[ppo] 2/3  8.0 s/step  8 s left  reward/mean 0.2" in out.getvalue()


def test_a_resumed_stage_says_so_and_does_not_count_old_steps_into_its_rate() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PlainProgress(out, clock=clock)
    progress.start("ppo", 100, resumed_from=90)
    for step, seconds in ((91, 30), (92, 6)):
        clock.now += seconds
        progress.update(step, {})
    assert out.getvalue().splitlines() == [
        "[ppo] 100 steps, resumed after step 90",
        "[ppo] 91/100",
        "[ppo] 92/100  6.0 s/step  48 s left",
    ]


def test_a_stage_cut_short_is_not_called_done() -> None:
    clock, out = Clock(), io.StringIO()
    progress = PlainProgress(out, clock=clock)
    progress.start("sft", 10)
    clock.now += 1
    progress.update(1, {})
    progress.finish()
    progress.finish()  # cleaning up twice is harmless
    assert out.getvalue().splitlines()[-1] == "[sft] stopped after step 1 of 10, 1 s"


def terminal(out: io.StringIO) -> Console:
    return Console(file=out, force_terminal=True, width=100, color_system=None, _environ={"TERM": "xterm"})


def test_the_live_view_shows_stage_steps_rate_and_figures() -> None:
    clock, out = Clock(), io.StringIO()
    progress = LiveProgress(console=terminal(out), clock=clock)
    progress.start("ppo", 40)
    clock.now += 7
    progress.update(1, {"reward/mean": 0.1, "time/train": 1.0})
    progress._live.refresh()  # type: ignore[union-attr]
    assert "7 s" in out.getvalue(), "before there is a rate, the time so far"
    assert "left" not in out.getvalue()
    clock.now += 2
    progress.update(11, {"reward/mean": 0.25, "time/train": 1.0})
    progress._live.refresh()  # type: ignore[union-attr]
    shown = out.getvalue()
    for part in ("ppo", "11/40", "5.0 steps/s", "6 s left", "reward/mean 0.25"):
        assert part in shown
    assert "time/train" not in shown
    progress.finish({"reward/mean": 0.5})
    assert "✓ ppo done in 9 s  reward/mean 0.5" in out.getvalue()
    assert "\x1b[?25h" in out.getvalue(), "the cursor is given back"


def test_the_live_view_prints_notes_as_they_are() -> None:
    out = io.StringIO()
    progress = LiveProgress(console=terminal(out))
    progress.start("sft", 3)
    progress.note("saved [bold]checkpoint-2[/bold]")
    progress.finish()
    assert "saved [bold]checkpoint-2[/bold]" in out.getvalue()
    assert "■ sft stopped after step 0 of 3" in out.getvalue()


def test_the_view_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(Terminal()), LiveProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_for(Terminal()), PlainProgress)


@pytest.mark.parametrize(("widgets", "view"), [(True, LiveProgress), (False, PlainProgress)])
def test_a_notebook_gets_a_live_cell_where_widgets_are_installed(
    monkeypatch: pytest.MonkeyPatch, widgets: bool, view: type
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if widgets else None)
    assert type(progress_for(io.StringIO())) is view


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ({"policy/loss": 2.0, "policy/lr": 1e-4, "time/step": 1.0}, ["policy/loss", "policy/lr"]),
        ({"reward/accuracy": 0.7, "reward/loss": 0.5, "policy/lr": 1e-4}, ["reward/accuracy", "reward/loss"]),
        ({"reward/mean": 0.7, "policy/loss": 0.5, "reward/failed": 2.0}, ["reward/mean", "reward/failed"]),
        ({"mine/own": 1.0}, ["mine/own"]),
        ({}, []),
    ],
)
def test_key_metrics_follow_the_kind_of_stage(metrics: dict[str, float], names: list[str]) -> None:
    assert list(key_metrics(metrics)) == names


def test_every_shown_metric_is_explained(repo_root: Path) -> None:
    table = (repo_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for row in KEY_METRICS for name in row if f"`{name}`" not in table] == []


def test_rate_follows_the_last_steps() -> None:
    clock = Clock()
    pace = Pace(1000, clock=clock)
    for step in range(1, 101):
        clock.now += 10 if step <= 50 else 1
        pace.tick(step)
    assert pace.steps_per_second == pytest.approx(1.0)
    assert pace.seconds_left == pytest.approx(900.0)


def test_workers_starting_in_the_first_step_do_not_spoil_the_estimate() -> None:
    clock = Clock()
    pace = Pace(100, clock=clock)
    clock.now += 30
    pace.tick(1)
    assert (pace.steps_per_second, pace.seconds_left) == (None, None), "one step's end is no rate"
    clock.now += 2
    pace.tick(2)
    assert pace.steps_per_second == pytest.approx(0.5)
    assert pace.seconds_left == pytest.approx(196.0)
    assert pace.seconds == 32.0, "the start-up is part of the time spent all the same"


def test_figures_are_short() -> None:
    assert [figure_text(x) for x in (0.0, 0.61234, 12.34, 123456.0, 1e-5, float("nan"))] == [
        "0", "0.612", "12.3", "123,456", "1.0e-05", "nan",
    ]  # fmt: skip
    assert [duration_text(x) for x in (0.4, 59.4, 200, 3723)] == ["0 s", "59 s", "3:20", "1:02:03"]
    assert [rate_text(x) for x in (None, 2.0, 0.25)] == ["", "2.0 steps/s", "4.0 s/step"]
