"""What a command raises becomes one line on standard error and an exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf.cli.exit_codes import run_command
from rlhf.errors import ConfigError, DataError, Interrupted, PluginError, ResourceError, RunError, WorkerDied
from rlhf.runtime import pipeline


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `rlhf train` raise this."""

    def raise_(error: BaseException) -> None:
        def train(*args: Any, **options: Any) -> None:
            raise error

        monkeypatch.setattr(pipeline, "train", train)

    return raise_


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("kl_coeff: unknown key"), 2, "error: kl_coeff: unknown key"),
        (DataError("rows.jsonl, line 3: not JSON"), 2, "error: rows.jsonl, line 3: not JSON"),
        (PluginError("two\n  lines"), 2, "error: two lines"),
        (ResourceError("too few CPUs"), 2, "error: too few CPUs"),
        (RunError("the root cause"), 1, "failed: the root cause"),
        (WorkerDied("policy 0 was killed"), 1, "failed: policy 0 was killed"),
        (Interrupted("saved step 3"), 130, "interrupted: saved step 3"),
        (Interrupted("saved step 3", 143), 143, "interrupted: saved step 3"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by zero"), 1, "failed: ZeroDivisionError: by zero (unexpected: --debug shows where)"),
        (KeyError(), 1, "failed: KeyError: no message (unexpected: --debug shows where)"),
    ],
)
def test_error_becomes_one_line_and_a_code(
    raising: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    raising(error)
    assert run_command(["train", "quickstart"]) == code
    captured = capsys.readouterr()
    assert captured.err == line + "\n"
    assert not captured.out


@pytest.mark.parametrize("argv", [["--debug", "train", "quickstart"], ["train", "quickstart", "--debug"]])
def test_debug_anywhere_shows_the_traceback(raising: Any, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    raising(ConfigError("wrong"))
    assert run_command(argv) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: wrong\n")


@pytest.mark.parametrize(("value", "is_shown"), [("1", True), ("0", False), ("", False)])
def test_debug_by_environment(
    raising: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str, is_shown: bool
) -> None:
    monkeypatch.setenv("RLHF_DEBUG", value)
    raising(RunError("wrong"))
    assert run_command(["train", "quickstart"]) == 1
    assert ("Traceback" in capsys.readouterr().err) is is_shown


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian"], "'train'"),
        (["train"], "RECIPE"),
        (["train", "quickstart", "--outt", "x"], "--out"),
        (["train", "no_such_recipe"], "no_such_recipe"),
        (["train", "quickstart", "novalue"], "key=value"),
        (["eval", "no_such_model"], "no_such_model"),
        (["report", "no_such_run"], "no_such_run"),
        (["recipes", "show", "quickstrat"], "quickstrat"),
        (["submit", "quickstart", "--address", "auto"], "http://"),
        (["submit", "quickstart", "--address", "http://127.0.0.1:1", "--out", "here"], "absolute"),
    ],
)
def test_bad_input_is_two_and_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    assert run_command(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert not captured.out


def test_done_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rlhf ")


def test_module_runs_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rlhf", "recipes", "show", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_ctrl_c_while_a_command_runs(tmp_path: Path) -> None:
    script = (
        "import rlhf.plugins, time\nrlhf.plugins.load_plugins = lambda *a: (print('up', flush=True), time.sleep(60))"
    )
    script += "\nfrom rlhf.cli import main\nimport sys\nsys.argv = ['rlhf', 'algorithms']\nmain()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.kill(process.pid, signal.SIGINT)
        _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in shown
