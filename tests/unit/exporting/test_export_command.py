"""`rlhf export`: what it is pointed at, what it refuses in a line, and that its folder is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf.cli.exit_codes import run_command
from rlhf.errors import ConfigError, RunError
from rlhf.exporting.calibration import calibration_rows
from rlhf.exporting.exported import FORMATS
from rlhf.exporting.source import find_source
from rlhf.exporting.whole_folder import whole_folder


def test_json_says_what_was_written(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run_command(["export", str(finished_run), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["out"], told["source"]) == ("safetensors", str(out), str(finished_run))
    assert told["files"] == {file.name: file.stat().st_size for file in out.iterdir()}
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1  # whoever may read one may read all


def test_a_line_says_what_was_written(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["export", str(finished_run), "--to", "adapter", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"adapter: {tmp_path / 'out'} (6 files, 0.0 MB)\n"
    assert printed.err.endswith("a folder of this machine; who loads it needs that too\n")


# --- what it is pointed at -------------------------------------------------------------------------------------------


def test_runs_stages_models_and_adapters_are_found(finished_run: Path) -> None:
    model = finished_run / "tuned" / "model"
    for given, stage, adapter in (
        (finished_run, "tuned", None),
        (finished_run / "sft", "sft", None),
        (model, "tuned", None),
        (model / "adapter", "tuned", model / "adapter"),
    ):
        source = find_source(str(given))
        assert (source.run, source.stage, source.adapter) == (finished_run, stage, adapter)
    assert find_source(str(model / "adapter")).weights == finished_run / "sft" / "model"


def test_a_run_of_one_stage_keeps_its_model_in_itself(run: Path) -> None:
    shutil.move(run / "sft" / "model", run / "model")
    source = find_source(str(run))
    assert (source.weights, source.run, source.stage) == (run / "model", run, None)


def test_a_run_that_is_not_finished_is_not_passed_off_as_an_earlier_stage(run: Path) -> None:
    shutil.rmtree(run / "tuned" / "model")
    with pytest.raises(ConfigError, match=f"the last stage, tuned, has not finished.*: {run / 'reward'}"):
        find_source(str(run))
    for stage in ("sft", "reward"):
        shutil.rmtree(run / stage / "model")
    with pytest.raises(ConfigError, match="no stage of this run has finished"):
        find_source(str(run))


@pytest.mark.parametrize(
    ("given", "said"),
    [("", "neither a run"), ("./nowhere", "is not a model folder"), ("someone/no-such-model", "cannot be fetched")],
)
def test_what_is_no_model_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        find_source(given or str(tmp_path))


# --- refused in a line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "safetensor"], "--to safetensor: one of safetensors, adapter,"),
        (["--dtype", "bf16"], "--dtype bf16: one of float32, bfloat16, float16."),
        (["--to", "adapter", "--dtype", "float16"], "--dtype is of --to safetensors and gguf"),
        (["--converter", "x.py"], "--converter is of --to gguf"),
        (["--data", "rows.jsonl"], "--data is of --to gptq and awq"),
        (["--column", "prompt=question"], "--format and --column are of --data"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run_command(["export", str(finished_run), "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {said}")
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_a_model_without_an_adapter_has_none(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    out = tmp_path / "out"
    assert run_command(["export", str(finished_run / stage), "--to", "adapter", "--out", str(out)]) == 2
    assert "has no adapter: it was trained whole" in capsys.readouterr().err


@pytest.mark.parametrize("to", FORMATS[3:])
def test_the_missing_compressor_is_named(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_command(["export", str(finished_run), "--to", to, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --to {to} needs llm-compressor, which is not here")
    assert said.endswith("pip install 'rlhf[quantize]'\n")


# --- whole or not there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken_by", ["file", "folder", "link"])
def test_nothing_is_overwritten(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], taken_by: str
) -> None:
    out = tmp_path / "out"
    {"file": out.touch, "folder": out.mkdir, "link": lambda: out.symlink_to(tmp_path / "nowhere")}[taken_by]()
    assert run_command(["export", str(finished_run), "--out", str(out)]) == 2
    assert f"--out {out} exists" in capsys.readouterr().err


def test_a_place_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*a; make it first"), whole_folder(tmp_path / "a" / "b"):
        pass


@pytest.mark.parametrize(
    ("failure", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), RunError)]
)
def test_what_fails_leaves_nothing(tmp_path: Path, failure: BaseException, seen: type[BaseException]) -> None:
    def write() -> None:
        with whole_folder(tmp_path / "out") as scratch:
            (scratch / "half").write_text("x")
            raise failure

    with pytest.raises(seen):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_came_in_between_stays(tmp_path: Path) -> None:
    def write() -> None:
        with whole_folder(tmp_path / "out") as scratch:
            (scratch / "ours").touch()
            (tmp_path / "out").mkdir()

    with pytest.raises(ConfigError, match="exists"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_terminated_export_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\nfrom rlhf.exporting.whole_folder import whole_folder\n"
        "with whole_folder(pathlib.Path('out')) as scratch:\n"
        "    (scratch / 'half').touch()\n    print('begun', flush=True)\n    time.sleep(30)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - started < 20
    assert "nothing was written" in said
    assert list(tmp_path.iterdir()) == []


# --- rows for GPTQ and AWQ -------------------------------------------------------------------------------------------


def test_rows_are_read_as_they_were_trained(finished_run: Path, rows: Path, tmp_path: Path) -> None:
    from rlhf.data.tokenizers import load_tokenizer

    model = finished_run / "sft" / "model"
    found = calibration_rows(rows, model, None, {})
    tokenizer = load_tokenizer(str(model))
    talks = [json.loads(line)["messages"] for line in rows.read_text().splitlines()]
    expected = sorted(tokenizer.apply_chat_template(talk, tokenize=True)["input_ids"] for talk in talks)
    assert sorted(found) == expected
    assert found == calibration_rows(rows, model, None, {})
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"question": "alpha", "chosen": " beta", "rejected": " gamma"}\n')
    (best,) = calibration_rows(pairs, model, None, {"prompt": "question"})
    assert "beta" in tokenizer.decode(best)
    assert "gamma" not in tokenizer.decode(best)
