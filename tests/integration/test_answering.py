"""How a model answers in an evaluation: by choice among samples, after examples, and what is refused before it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.cli.exit_codes import run_command
from rlhf.config import AnswersConfig
from rlhf.errors import ConfigError, DataError
from rlhf.functional.selection import best_of_n_kl
from rlhf.recipe import load_recipe
from rlhf.runtime.evaluating import evaluate_models
from rlhf.runtime.pipeline import prepare
from rlhf.validation import validated
from tests.tiny_runs import DATA, MODEL, REWARD, SFT, pipeline, single

EXAMPLE = {"prompt": "say the first word : lamp bridge", "completion": "lamp"}
EVALUATION = {"num_prompts": 30, "max_tokens": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SFT and a reward model, whose evaluation compares a sample with the best of eight."""
    recipe = pipeline(
        stages={"sft": {**SFT, "algorithm": {"type": "sft", "steps": 60, "batch_size": 16}}, "reward": REWARD}
    )
    recipe["defaults"]["data"] = {**DATA, "num_demonstrations": 1000}
    recipe["evaluation"] = {
        "before": "stage:sft",
        "after": {"model": "stage:sft", "best_of": 8, "reward_model": "stage:reward"},
        **EVALUATION,
    }
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("run") / "run").folder


def answers(folder: Path, **options: Any) -> AnswersConfig:
    return validated(AnswersConfig, {"model": str(folder / "sft" / "model"), **options}, "")


def mean(result: Any) -> float:
    scores = [score for score in result.scores().values() if score is not None]
    return sum(scores) / len(scores)


def test_a_run_says_what_choosing_gained_and_cost(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["answering"]) == {"after"}
    figures = summary["answering"]["after"]
    assert figures["kl_bound"] == pytest.approx(best_of_n_kl(8))
    assert figures["tokens_per_answer"] > 8
    again = load_recipe(folder / "recipe.yaml")
    assert again.evaluation is not None
    assert again.evaluation.after.best_of == 8
    before, after = ((folder / "evaluation" / f"{label}.jsonl").read_text() for label in ("before", "after"))
    assert before != after


def test_the_best_by_the_gold_reward_is_better_and_the_best_of_one_is_the_model_as_it_is(folder: Path) -> None:
    gold = {"reward": "pocket_gold"}
    results = evaluate_models(
        {
            "plain": folder / "sft" / "model",
            "best": answers(folder, best_of=8, **gold),
            "tilted": answers(folder, best_of=8, rejection_beta=1e6, **gold),
        },
        **EVALUATION,
    )
    assert mean(results["best"]) > mean(results["plain"]) + 0.05
    of_each = [item.grade.score for item in results["best"].graded]
    assert results["best"].answering["reward"] == pytest.approx(sum(filter(None, of_each)) / len(of_each))
    said = {label: [g.rollout.completion.text for g in result.graded] for label, result in results.items()}
    assert said["tilted"] == said["plain"]  # any sample will do, so the first one does
    assert "kl_bound" not in results["tilted"].answering
    assert results["plain"].answering == {}


def test_examples_change_what_is_said_and_graders_see_the_question_alone(folder: Path) -> None:
    results = evaluate_models({"plain": answers(folder), "shown": answers(folder, in_context=[EXAMPLE])}, **EVALUATION)
    plain, shown = results["plain"].graded, results["shown"].graded
    assert [item.rollout.prompt.messages for item in shown] == [item.rollout.prompt.messages for item in plain][
        : len(shown)
    ]
    tokens = {item.rollout.prompt.id: len(item.rollout.prompt.token_ids) for item in plain}
    longer = {len(item.rollout.prompt.token_ids) - tokens[item.rollout.prompt.id] for item in shown}
    assert len(longer) == 1
    assert longer.pop() > 8
    assert [i.rollout.completion.text for i in shown] != [i.rollout.completion.text for i in plain]
    with pytest.raises(DataError, match=r"9 examples leave no prompt of the suite room in a context of 64 tokens"):
        evaluate_models({"shown": answers(folder, in_context=[EXAMPLE] * 9)}, **EVALUATION)


def test_the_command_line_says_how_a_model_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, reward = str(folder / "sft" / "model"), str(folder / "reward" / "model")
    (tmp_path / "examples.jsonl").write_text(json.dumps(EXAMPLE) + "\n")
    options = ["--num-prompts", "9", "--max-tokens", "8", "--json"]
    argv = ["eval", model, "--baseline", model, "--best-of", "4", "--reward-model", reward, *options]
    assert run_command([*argv, "--in-context", str(tmp_path / "examples.jsonl")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"]["answering"]["kl_bound"] == pytest.approx(best_of_n_kl(4))
    assert "answering" not in printed["baseline"]
    assert run_command(["eval", model, "--best-of", "4"]) == 2
    assert "best_of 4 needs something to pick by" in capsys.readouterr().err


# --- refused before anything is trained ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"model": "stage:sft", "best_of": 4}, "evaluation.after: best_of 4 needs something to pick by"),
        ({"model": "stage:sft", "reward": "pocket_gold"}, "evaluation.after: there is nothing to pick from"),
        ({"model": "stage:sft", "rejection_beta": 0.5}, "evaluation.after: there is nothing to pick from"),
        ({"model": "stage:sft", "best_of": 4, "reward": "reward_model"}, "needs `reward_model: PATH` beside it"),
        ({"model": "stage:sft", "best_of": 4, "reward": "pocket_glod"}, "evaluation.after.reward: no reward is called"),
        ({"model": "stage:stf"}, "evaluation refers to stage:stf"),
        ({"model": "stage:sft", "best_of": 4, "reward_model": "stage:rm"}, "evaluation refers to stage:rm"),
        ({"model": "./nowhere"}, "./nowhere is not a model folder"),
        ({"model": "stage:sft", "in_context": "nowhere.jsonl"}, "no file nowhere.jsonl"),
        ({"model": "stage:sft", "in_context": [{"prompt": "q"}]}, "in_context[0]: a prompt row shows no answer"),
        ({"model": "stage:sft", "best_off": 4}, "evaluation.after.best_off: unknown key. Did you mean 'best_of'?"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused(after: dict[str, Any], said: str) -> None:
    recipe = single(SFT)
    stage = {key: recipe.pop(key) for key in ("algorithm", "model", "data", "optimizer", "held_out_rows", "engine")}
    recipe |= {"stages": {"sft": stage}, "evaluation": {"after": after}}
    with pytest.raises((ConfigError, DataError)) as caught:
        prepare(recipe)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reward_of_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    other = rlhf.train(
        single({**REWARD, "model": {"new": {**MODEL, "tokenizer": {"type": "bytes", "vocab_size": 300}}}}),
        out=tmp_path / "other",
    )
    with pytest.raises(ConfigError, match=r"reward_model: the model .* has another vocabulary"):
        evaluate_models({"model": answers(folder, best_of=2, reward_model=str(other.model))}, **EVALUATION)


def test_a_reward_of_ones_own_file_picks_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("def short(completions):\n    return [-len(text) for text in completions]\n")
    recipe = single(SFT)
    stage = {key: recipe.pop(key) for key in ("algorithm", "model", "data", "optimizer", "held_out_rows", "engine")}
    model = str(folder / "sft" / "model")
    after = {"model": model, "best_of": 4, "reward": f"{tmp_path / 'short.py'}:short"}
    recipe |= {"stages": {"sft": stage}, "evaluation": {"before": model, "after": after, **EVALUATION}}
    run = rlhf.train(recipe, out=tmp_path / "run")
    lengths = []
    for label in ("before", "after"):
        rows = [json.loads(line) for line in (run.folder / "evaluation" / f"{label}.jsonl").read_text().splitlines()]
        lengths.append(sum(len(row["completion"]) for row in rows))
    assert lengths[1] < 0.8 * lengths[0]
    assert run.summary["answering"]["after"]["reward"] == pytest.approx(-lengths[1] / 30)
