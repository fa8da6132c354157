"""A pipeline in one process leaves a folder that others can read, and the same seed leaves the same figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import rlhf
from rlhf.errors import ConfigError, DataError
from rlhf.recipe import load_recipe
from rlhf.runtime.claim import _holds_nothing
from rlhf.runtime.result import RunResult
from tests.tiny_runs import MODEL, SFT, assert_same_weights, changed, pipeline, single, weights_of

EVALUATION = {"before": "stage:sft", "after": "stage:ppo", "num_prompts": 30, "max_tokens": 8}
MONITOR = ["pocket_helpful", "pocket_honest", "pocket_harmless"]


def recipe(**changes: Any) -> dict[str, Any]:
    return pipeline(evaluation=EVALUATION, stages__ppo__monitor=MONITOR, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return rlhf.train(recipe(), out=tmp_path_factory.mktemp("runs") / "one")


def without_times(value: Any) -> Any:
    """The same without seconds, and without when a line was written."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("seconds", "time") and "time/" not in k}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value


def test_every_stage_leaves_its_metrics_model_and_summary(run: RunResult) -> None:
    for stage, steps in (("sft", 4), ("reward", 4), ("ppo", 3)):
        folder = run.folder / stage
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, steps + 1))
        assert json.loads((folder / "summary.json").read_text())["steps"] == steps
        assert not list(run.folder.rglob("*.tmp"))
    assert len(run.metrics) == 11
    assert run.model == run.folder / "ppo" / "model"


def test_metrics_go_by_their_documented_names(run: RunResult) -> None:
    last = run.metrics[-1]
    assert {
        "reward/mean",
        "reward/failed",
        "rollout/length",
        "rollout/truncated",
        "rollout/logprob_gap",
        "policy/kl_to_reference",
        "policy/approx_kl",
        "policy/loss",
        "value/loss",
        "value/explained_variance",
        "gold/helpful",
        "gold/honest",
        "gold/harmless",
        "time/step",
        "tokens/seen",
    } <= last.keys()


def test_samples_are_kept_with_their_rewards(run: RunResult) -> None:
    rows = [json.loads(line) for line in (run.folder / "ppo" / "samples.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} == {1, 2, 3}
    assert all(isinstance(row["reward"], float) for row in rows)


def test_the_policy_loads_as_a_causal_model_with_its_tokenizer(run: RunResult) -> None:
    model, info = AutoModelForCausalLM.from_pretrained(run.model, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**prompt, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert out.shape[1] == prompt["input_ids"].shape[1] + 3


def test_the_reward_model_loads_as_a_classifier_of_one_score(run: RunResult) -> None:
    model, info = AutoModelForSequenceClassification.from_pretrained(
        run.folder / "reward" / "model", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.num_labels == 1


def test_the_saved_recipe_is_the_whole_recipe(run: RunResult) -> None:
    saved = load_recipe(run.folder / "recipe.yaml")
    assert saved.digest == load_recipe(recipe()).digest == run.summary["recipe_hash"]


def test_the_summary_holds_the_figures_under_their_names(run: RunResult) -> None:
    summary = json.loads((run.folder / "summary.json").read_text())
    axes = {"helpful", "honest", "harmless"}
    assert axes <= summary["before"].keys()
    assert axes <= summary["after"].keys()
    assert summary["seconds"] > 0
    assert [stage["name"] for stage in summary["stages"]] == ["sft", "reward", "ppo"]
    held_out = {stage["name"]: stage["held_out"] for stage in summary["stages"]}
    assert held_out["sft"]["before"]["loss"]["n"] == 8
    assert held_out["reward"]["after"].keys() == {"accuracy", "accuracy_longer_wins"}
    assert held_out["ppo"]["after"].keys() == {"reward", "kl_to_reference"}


def test_the_report_is_one_self_contained_page(run: RunResult) -> None:
    page = run.report.read_text()
    assert "<html" in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_the_same_seed_gives_the_same_figures_to_the_last_digit(run: RunResult, tmp_path: Path) -> None:
    again = rlhf.train(recipe(), out=tmp_path / "again")
    assert without_times(again.summary) == without_times(run.summary)
    assert without_times(again.metrics) == without_times(run.metrics)
    for stage in ("sft", "reward", "ppo"):
        assert_same_weights(again.folder / stage / "model", run.folder / stage / "model")
    samples = [(r.folder / "ppo" / "samples.jsonl").read_text() for r in (run, again)]
    assert samples[0] == samples[1]


def test_another_seed_gives_other_figures(run: RunResult, tmp_path: Path) -> None:
    other = rlhf.train(recipe(seed=1), out=tmp_path / "other")
    answers = [(r.folder / "evaluation" / "before.jsonl").read_text() for r in (run, other)]
    assert answers[0] != answers[1]
    for stage in ("sft", "reward", "ppo"):
        mine, theirs = (weights_of(r.folder / stage / "model") for r in (run, other))
        assert mine.keys() != theirs.keys() or any(not mine[name].equal(theirs[name]) for name in mine)


# --- a folder belongs to one run --------------------------------------------------------------------------------------


def test_a_folder_that_exists_is_refused_and_left_as_it_is(run: RunResult) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    with pytest.raises(ConfigError, match=r"run folder .*one exists; continue it with --resume, or .* --out DIR"):
        rlhf.train(recipe(), out=run.folder)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_resuming_with_another_recipe_is_refused(run: RunResult) -> None:
    text = (run.folder / "recipe.yaml").read_text()
    with pytest.raises(
        ConfigError,
        match=r"differs from the one .*: stages\.ppo\.algorithm\.steps: 3 -> 4; .*recipe.yaml --resume --out",
    ):
        rlhf.train(recipe(stages__ppo__algorithm__steps=4), out=run.folder, resume=True)
    assert (run.folder / "recipe.yaml").read_text() == text


def test_resuming_what_never_began_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--resume: .* holds no run \(no recipe.yaml\)"):
        rlhf.train(recipe(), out=tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_resuming_a_finished_run_is_refused(run: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is finished"):
        rlhf.train(recipe(), out=run.folder, resume=True)
    one = rlhf.train(single(SFT), out=tmp_path / "one")
    with pytest.raises(ConfigError, match="is finished"):
        rlhf.train(single(SFT), out=one.folder, resume=True)


def test_a_single_stage_that_was_stopped_in_its_evaluation_is_taken_up_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {**single(SFT), "evaluation": {"after": "stage:sft", "num_prompts": 6, "max_tokens": 4}}

    def ctrl_c(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rlhf.runtime.pipeline._evaluate", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            rlhf.train(stage, out=tmp_path / "run")
    model = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    run = rlhf.train(stage, out=tmp_path / "run", resume=True)
    assert "helpful" in run.summary["after"]
    assert (run.model / "model.safetensors").stat().st_mtime_ns == model, "the stage was not run again"


def test_what_is_wrong_is_said_before_a_folder_is_made(tmp_path: Path) -> None:
    for wrong in (
        {"stages.ppo.monitor": ["pocket_helpfull"]},
        {"stages.ppo.algorithm.stepz": 3},
        {"stages.sft.data": {"type": "files", "path": str(tmp_path / "none.jsonl")}},
        {"stages.sft.model": str(tmp_path / "no" / "model" / "here")},
        {"stages.sft.algorithm.type": "reward_modell"},
    ):
        with pytest.raises(Exception, match=r".") as caught:
            rlhf.train(changed(recipe(), wrong), out=tmp_path / "run")
        assert type(caught.value).__module__ == "rlhf.errors", caught.value
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_skipped_rows_are_reported_at_every_step(tmp_path: Path) -> None:
    good, bad = (
        {"prompt": "q", "completion": "a"},
        [{"prompt": "q", "completion": " "}, {"prompt": "", "completion": "a"}],
    )
    rows = [good, *bad, good]
    stage = changed(single(SFT), {"data": {"type": "rows", "rows": rows, "on_bad_row": "skip"}})
    run = rlhf.train(stage, out=tmp_path / "run")
    assert [row["data/bad_rows"] for row in run.metrics] == [2.0] * 4


def test_a_recipe_file_and_a_dictionary_are_the_same_run(run: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe(), sort_keys=False))
    assert load_recipe(path).digest == load_recipe(recipe()).digest


def test_a_run_that_fails_before_its_first_step_leaves_its_name_free(tmp_path: Path) -> None:
    rows = tmp_path / "long.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "word " * 200, "completion": "yes"}) + "\n" for _ in range(3)))
    data = {"type": "files", "path": str(rows), "held_out": 0}
    recipe = single({**SFT, "model": {"new": {**MODEL, "context": 16}}}, data=data)
    with pytest.raises(DataError, match=r"none of the data's 3 rows can be used: .* longer than 16 tokens"):
        rlhf.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_time_of_a_resumed_run_is_that_of_all_its_sessions(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = rlhf.train(pipeline(), out=out)
    spent = dict.fromkeys(("sft", "reward"), 100.0)
    for name, seconds in spent.items():
        summary = out / name / "summary.json"
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "seconds": seconds}))
    (out / "summary.json").unlink()
    shutil.rmtree(out / "ppo")
    again = rlhf.train(pipeline(), out=out, resume=True)
    assert 200 < again.summary["seconds"] < 200 + 10 * max(first.summary["seconds"], 10)


@pytest.mark.parametrize("evidence", ["sft/not_finite/1.safetensors", "sft/checkpoints/1/state", "sft/metrics.jsonl"])
def test_a_failed_run_that_has_something_to_show_stays(tmp_path: Path, evidence: str) -> None:
    for name in ("recipe.yaml", evidence):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("{}")
    assert not _holds_nothing(tmp_path / "run")
    (tmp_path / "run" / evidence).unlink()
    shutil.rmtree(tmp_path / "run" / evidence.split("/", maxsplit=1)[0])
    assert _holds_nothing(tmp_path / "run")
