"""The comparison of methods: what it picks, what it counts, what it writes, and that it can be taken up again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import rlhf
from benchmarks import compare
from benchmarks.comparison import as_table, summarised
from benchmarks.methods import METHODS


def rows_of(means: dict[str, list[float]]) -> list[dict[str, Any]]:
    costs = {"reward": 0.5, "kl": 0.1, "train_seconds": 10.0, "tokens_per_answer": 4.0}
    return [
        {"seed": seed, "method": name, "helpful": mean, "honest": mean, "harmless": mean, "mean": mean, **costs}
        for name, values in means.items()
        for seed, mean in enumerate(values)
    ]


def test_gains_are_taken_seed_by_seed() -> None:
    """Seeds differ by 0.4, gains not at all: the interval of the gain has no width, that of the mean has."""
    _, ppo = summarised(rows_of({"SFT": [0.1, 0.3, 0.5], "PPO": [0.3, 0.5, 0.7]}))
    half = 4.303 * 0.2 / 3**0.5
    assert ppo["mean"] == {"mean": pytest.approx(0.5), "interval": pytest.approx([0.5 - half, 0.5 + half])}
    assert ppo["gain"] == {"mean": pytest.approx(0.2), "interval": pytest.approx([0.2, 0.2])}


@pytest.mark.parametrize(("values", "cell"), [([0.25], "| 0.250 |"), ([0.25, 0.75], "| 0.500 [-2.676, 3.676] |")])
def test_one_seed_has_no_interval(values: list[float], cell: str) -> None:
    rows = rows_of({"SFT": values})
    table = as_table({"recipe": "r", "short": False, "seeds": len(values), "rows": rows, "methods": summarised(rows)})
    assert cell in " ".join(table.split("##", maxsplit=1)[0].split())


# --- a whole comparison, shortened -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    assert compare.main(["--short", "--seeds", "1", "--out", str(folder), "--json", str(folder / "copy.json")]) == 0
    return folder


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(rlhf, "train", train)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_method_has_a_row_with_finite_figures(out: Path) -> None:
    rows = read(out / "comparison.json")["rows"]
    assert [row["method"] for row in rows] == [method.name for method in METHODS]
    assert all(math.isfinite(value) for row in rows for value in row.values() if not isinstance(value, str))
    seconds = [row["train_seconds"] for row in rows]
    assert seconds[0] < seconds[1] == seconds[2] < seconds[3]


def test_sft_and_ppo_answer_as_in_the_evaluation_of_the_run(out: Path) -> None:
    """The same prompts and seed, so the same answers, to the last byte."""
    run = out / "seed-0"
    for mine, own in (("sft", "before"), ("ppo", "after")):
        assert (run / "comparison" / f"{mine}.jsonl").read_bytes() == (run / "evaluation" / f"{own}.jsonl").read_bytes()


def test_more_samples_cost_more_and_please_the_reward_model_more(out: Path) -> None:
    sft, best_of_4, best_of_16, _ = read(out / "comparison.json")["rows"]
    assert sft["reward"] < best_of_4["reward"] < best_of_16["reward"]
    assert sft["tokens_per_answer"] < best_of_4["tokens_per_answer"] < best_of_16["tokens_per_answer"]
    assert sft["kl"] == 0


def test_kl_of_ppo_is_the_one_measured_on_held_out_prompts(out: Path) -> None:
    summary = read(out / "seed-0" / "ppo" / "summary.json")
    measured = summary["held_out"]["after"]["kl_to_reference"]["mean"]
    assert read(out / "comparison.json")["rows"][-1]["kl"] == measured != 0


def test_table_plot_and_copy_are_written(out: Path) -> None:
    assert "best of 16" in (out / "comparison.md").read_text()
    plot = (out / "comparison.svg").read_text()
    assert plot.rstrip().endswith("</svg>")
    assert read(out / "copy.json") == read(out / "comparison.json")


@pytest.mark.usefixtures("no_training")
def test_a_finished_seed_is_taken_as_it_is(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--short", "--seeds", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out == (out / "comparison.md").read_text()


@pytest.mark.usefixtures("no_training")
def test_a_trained_seed_is_graded_again_to_the_same_figures(out: Path) -> None:
    before = read(out / "comparison.json")
    (out / "seed-0" / compare.ROWS_NAME).unlink()
    assert compare.main(["--short", "--seeds", "1", "--out", str(out)]) == 0
    assert read(out / "comparison.json") == before


def test_a_folder_of_another_comparison_is_refused(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--seeds", "1", "--out", str(out), "--runtime", "inline"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert "recipe differs" in message


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--seeds", "two"], ["--out", "taken"]])
def test_bad_arguments_are_refused_before_anything_runs(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit) as stop:
        compare.main(["--short", *arguments])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("error:") == 1
