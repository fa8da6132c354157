"""The small commands: what they print, and that `--json` stands alone on standard output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf import recipe_file
from rlhf.cli.exit_codes import run_command
from rlhf.cli.options import read_overrides
from rlhf.errors import ConfigError
from rlhf.evaluation.result import AxisScore, EvaluationResult, GradedRollout
from rlhf.evaluation.statistics import mean_interval
from rlhf.evaluation.suites import AXES
from rlhf.runtime import evaluating, pipeline
from rlhf.types import Completion, Grade, Prompt, Rollout


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One shipped recipe, `small`."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    text = "description: A small\n  one.\nplugins: {paths: [own.py]}\nalgorithm: sft\nmodel: new\ndata: pocket\n"
    (folder / "small.yaml").write_text(text)
    monkeypatch.setattr(recipe_file, "shipped_recipes", lambda: {"small": folder / "small.yaml"})
    return folder / "small.yaml"


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_recipes_are_listed_with_their_description(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == ["small", "A small one."]


def test_recipe_is_shown_as_it_is(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes", "show", "small"]) == 0
    assert capsys.readouterr().out == shipped.read_text()


@pytest.mark.parametrize(
    ("dest", "target"), [("", "small.yaml"), ("sub", "sub/small.yaml"), ("mine.yaml", "mine.yaml")]
)
def test_recipe_is_copied_once(
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dest: str,
    target: str,
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    argv = ["recipes", "copy", "small", *([dest] if dest else [])]
    assert run_command(argv) == 0
    assert (tmp_path / target).read_text() == shipped.read_text()
    (tmp_path / target).write_text("changed")
    assert run_command(argv) == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / target).read_text() == "changed"


def test_recipe_is_not_copied_into_a_missing_folder(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["recipes", "copy", "small", "nowhere/small.yaml"]) == 2
    assert "no folder 'nowhere'" in capsys.readouterr().err


# --- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_read_as_yaml() -> None:
    words = ["algorithm.kl_coef=1e-1", "seed=3", "a=", "name=b=c", "list=[1, x]"]
    expected = {"algorithm.kl_coef": "1e-1", "seed": 3, "a": None, "name": "b=c", "list": [1, "x"]}
    assert read_overrides("unread", words, None) == expected


def test_plugin_files_are_added_to_those_of_the_recipe(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = read_overrides(str(shipped), [], ["mine.py", "dir/other.py:reward"])
    assert overrides["plugins.paths"] == ["own.py", str(tmp_path / "mine.py"), str(tmp_path / "dir/other.py:reward")]


@pytest.mark.parametrize("word", ["novalue", "=3", "a=[1"])
def test_malformed_override_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        read_overrides("unread", [word], None)


# --- train and quickstart --------------------------------------------------------------------------------------------


class Trained:
    """Stands in for the pipeline: remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def train(self, recipe: Any, overrides: Any, *, out: Any, resume: bool = False, strict_resume: bool = False) -> Any:
        self.asked = {"recipe": recipe, "overrides": overrides, "out": out, "resume": resume}
        folder = Path(out or "runs/small")
        folder.mkdir(parents=True, exist_ok=True)
        scores = {"before": dict.fromkeys(("helpful", "honest", "harmless"), 0.25)}
        (folder / "summary.json").write_text(json.dumps(scores | {"after": dict.fromkeys(scores["before"], 0.75)}))
        return SimpleNamespace(folder=folder, model=folder / "ppo" / "model", report=folder / "report.html")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    fake = Trained()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "train", fake.train)
    return fake


def test_flags_of_train_are_overrides(trained: Trained, shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "small", "seed=7", "--out", "x", "--resume", "--runtime", "inline", "--address", "auto"]
    assert run_command(argv) == 0
    expected = {"seed": 7, "runtime.type": "inline", "runtime.address": "auto"}
    assert trained.asked == {"recipe": "small", "overrides": expected, "out": Path("x"), "resume": True}
    assert "report: x/report.html" in capsys.readouterr().out


def test_quickstart_prints_the_table_and_the_report(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["quickstart", "--seed", "5"]) == 0
    assert trained.asked["recipe"] == "quickstart"
    assert trained.asked["overrides"] == {"seed": 5}
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["before", "after", "change"]
    assert {"helpful", "honest", "harmless"} <= {line.split()[0] for line in shown.splitlines()}
    assert "0.250" in shown
    assert "0.750" in shown
    assert "report: runs/quickstart/report.html" in shown


def test_quickstart_leaves_an_earlier_run_alone(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    for expected in ("runs/quickstart", "runs/quickstart-2", "runs/quickstart-3"):
        assert run_command(["quickstart"]) == 0
        assert trained.asked["out"] == Path(expected)
    assert "runs/quickstart exists, so this run goes to runs/quickstart-3" in capsys.readouterr().err


# --- eval ------------------------------------------------------------------------------------------------------------


def graded(scores: list[float | None]) -> EvaluationResult:
    """A result on the honest axis, one prompt a score."""
    completion = Completion(token_ids=(), logprobs=(), text="", finish_reason="stop")
    items = tuple(
        GradedRollout(
            rollout=Rollout(prompt=Prompt(id=str(i), text="q"), completion=completion),
            grade=Grade(axis="honest", score=score, error=None if score is not None else "broken"),
        )
        for i, score in enumerate(scores)
    )
    known = [score for score in scores if score is not None]
    axes = {"honest": AxisScore(estimate=mean_interval(known), failed=len(scores) - len(known))}
    return EvaluationResult(suite="3h", axes=axes, graded=items, dropped=0)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    def evaluate_models(models: dict[str, Path], suite: str, **options: Any) -> dict[str, EvaluationResult]:
        print("a library talks")
        asked.update(options, models=models, suite=suite)
        scores: dict[str, list[float | None]] = {"baseline": [0.0, 1.0, None, 0.5], "model": [0.5, 1.0, 1.0, 1.0]}
        return {label: graded(scores[label]) for label in models}

    monkeypatch.setattr(evaluating, "evaluate_models", evaluate_models)
    return asked


def test_eval_prints_json_and_nothing_else(evaluated: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["eval", "m", "--baseline", "b", "--json", "--num-prompts", "9"]) == 0
    captured = capfd.readouterr()
    figures = json.loads(captured.out)
    assert "a library talks" in captured.err
    assert figures["model"]["axes"]["honest"]["mean"] == 0.875
    assert figures["baseline"] == {"path": "b"} | graded([0.0, 1.0, None, 0.5]).as_dict()
    # Over the three prompts both have a grade for: 0.5, 0, 0.5.
    assert figures["change"]["honest"]["mean"] == pytest.approx(1 / 3)
    assert evaluated["num_prompts"] == 9
    assert evaluated["suite"] == "3h"


def test_eval_prints_a_table(evaluated: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["eval", "m", "--baseline", "b"]) == 0
    captured = capsys.readouterr()
    assert "0.875" in captured.out
    assert "+0.333" in captured.out
    assert "change: model minus baseline, prompt by prompt" in captured.out
    assert "mean of the three" not in captured.out  # of one axis there is none
    assert "baseline: 1 grades failed" in captured.err


def test_eval_prints_the_mean_of_three_axes_and_the_price_of_choosing(
    evaluated: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"reward": 1.25, "tokens_per_answer": 40.0, "kl_bound": 1.329}

    def evaluate_models(models: dict[str, Path], suite: str, **options: Any) -> dict[str, EvaluationResult]:
        results = {"baseline": three_axes([0.0, 0.5]), "model": three_axes([0.5, 1.0])}
        return results | {"model": replace(results["model"], answering=chosen)}

    monkeypatch.setattr(evaluating, "evaluate_models", evaluate_models)
    assert run_command(["eval", "m", "--baseline", "b"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^mean of the three +0\.250 \[.*\] +0\.750 \[.*\] +\+0\.500 \[", shown, re.MULTILINE)
    assert "model: the answers chosen have a mean reward of 1.25; 40 tokens were sampled for each; choosing is" in shown
    assert "at most 1.33 nats of KL away" in shown


def three_axes(scores: list[float | None]) -> EvaluationResult:
    whole = graded(scores)
    items = tuple(replace(i, grade=replace(i.grade, axis=axis)) for axis in AXES for i in whole.graded)
    return replace(whole, axes=dict.fromkeys(AXES, whole.axes["honest"]), graded=items)


def test_eval_of_one_model_has_no_change(evaluated: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["eval", "m"]) == 0
    assert "change" not in capsys.readouterr().out


# --- plugins, hooks, algorithms --------------------------------------------------------------------------------------


def test_plugins_are_listed_as_json() -> None:
    argv = [sys.executable, "-m", "rlhf", "plugins", "list", "--json", "--plugin", "no_such.py"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = {info["name"]: info for info in json.loads(done.stdout)["plugins"]}
    assert found["rewards"]["origin"] == "built-in"
    assert "reward constant" in found["rewards"]["parts"]
    assert "no such file" in found["no_such"]["error"]


def test_broken_plugin_is_listed_with_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module")
    assert run_command(["plugins", "list", "--plugin", str(tmp_path / "bad.py")]) == 0
    shown = capsys.readouterr().out
    assert f"bad  ({tmp_path / 'bad.py'})  BROKEN\n    error: it needs the module 'no_such_module'" in shown


def test_hooks_are_printed_in_calling_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["hooks"]) == 0
    shown = capsys.readouterr().out
    assert "should_stop(step: int, metrics: Metrics) -> str | None\n    Decide whether" in shown
    assert shown.index("register_rewards(") < shown.index("on_run_start(") < shown.index("on_run_end(")


def test_algorithms_say_what_they_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "late.py").write_text(
        "from rlhf import PartConfig, hookimpl\n"
        "class Config(PartConfig):\n    steps: int\n"
        "@hookimpl\ndef register_algorithms(register):\n    register('late', lambda config: None, config=Config)\n"
    )
    assert run_command(["algorithms", "--plugin", str(tmp_path / "late.py")]) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if not line.endswith(("plugin", "late"))) <= 122
    methods, papers, answering = shown.split("\n\n")
    lines = {line.split()[0]: line for line in methods.splitlines()}
    assert lines["sft"].split()[1:] == ["sft", "demonstrations", "policy"]
    assert "policy, reference, value, rollout, reward*" in lines["ppo"]
    assert "late.steps: required" in lines["late"]
    assert lines["late"].endswith("  late")
    assert lines["process_reward_model"].split()[1:] == ["process_reward", "stepwise", "reward"]
    assert "in_context" not in methods
    assert [line.split()[0] for line in answering.splitlines()[1:]] == ["best_of_n", "in_context"]
    assert "Ouyang et al. 2022, arXiv:2203.02155" in papers
    assert "BERT: Devlin et al. 2018" in papers


@pytest.mark.parametrize("name", ["mine", "2024"])
def test_a_copied_recipe_has_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    from rlhf.cli.exit_codes import run_command
    from rlhf.recipe import load_recipe

    assert run_command(["recipes", "copy", "quickstart", str(tmp_path / f"{name}.yaml")]) == 0
    assert load_recipe(tmp_path / f"{name}.yaml").name == name
