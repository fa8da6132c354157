"""`rlhf generate` and streamed `rlhf grade`: what is written is read by training, whole or gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from rlhf.cli.exit_codes import run_command
from rlhf.config import RolloutConfig
from rlhf.data.dataset import FilesConfig, FilesDataset
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.runtime.data_jobs import generating
from rlhf.runtime.data_jobs.block_runs import Place
from rlhf.runtime.data_jobs.generating import GenerateOptions, generate
from rlhf.runtime.data_jobs.lines_source import RowFormat
from tests.unit.engines.families import VOCAB_SIZE, write_model

HERE = Place("inline")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    vocabulary = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, VOCAB_SIZE)}}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    return write_model("gpt2", folder)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"w{n} w5", "reference": f"w{n}", "label": "easy"} for n in range(6, 15)]
    rows.append({"prompt": "w5 " * 100})  # longer than the context of 64
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def options(model: str, **more: Any) -> GenerateOptions:
    return GenerateOptions(model=model, num_samples=3, rollout=RolloutConfig(max_tokens=5), **more)


def made(prompts: Path, given: GenerateOptions, name: str = "out.jsonl", **more: Any) -> list[dict[str, Any]]:
    found = generate(prompts, prompts.parent / name, given, RowFormat(), HERE, **more)
    rows = [json.loads(line) for line in found.out.read_text("utf-8").splitlines()]
    assert (found.prompts, found.too_long, found.written) == (9, 1, len(rows))
    return rows


def test_rows_are_demonstrations_with_the_columns_of_their_prompts(prompts: Path, model: str) -> None:
    rows = made(prompts, options(model))
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [
        (f"prompts.jsonl:{line}", sample) for line in range(1, 10) for sample in range(3)
    ]
    assert all(row["num_tokens"] <= 5 and row["logprob"] < 0 and row["reference"] for row in rows)
    assert rows[0]["prompt_label"] == "easy", "as `label` it would make another format of the row"
    dataset = FilesDataset(FilesConfig(path=str(prompts.parent / "out.jsonl"), on_bad_row="skip"))
    assert dataset.sizes["demonstrations"] == len([row for row in rows if row["completion"].strip()])


def test_samples_are_those_of_their_seed_and_differ_from_each_other(prompts: Path, model: str) -> None:
    one, same, other = (
        made(prompts, replace(options(model), seed=seed), f"{name}.jsonl")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same
    assert one != other
    assert len({row["completion"] for row in one[:3]}) > 1


def test_the_best_and_the_pairs_are_what_the_judge_says(prompts: Path, model: str) -> None:
    plugin = prompts.parent / "numbers.py"
    plugin.write_text(
        "def numbers(prompts, completions, **columns):\n"
        "    return [float(sum(map(int, filter(str.isdigit, text)))) for text in completions]\n"
    )
    judged = options(model, judge="numbers", plugin_files=(f"{plugin}:numbers",))
    rows = made(prompts, judged, "all.jsonl")
    best = made(prompts, replace(judged, write="best"), "best.jsonl")
    pairs = made(prompts, replace(judged, write="pairs"), "pairs.jsonl")
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["completion"].strip():
            scores.setdefault(row["prompt_id"], []).append(row["reward"])
    assert {row["prompt_id"]: row["reward"] for row in best} == {name: max(mine) for name, mine in scores.items()}
    for row in pairs:
        mine = scores[row["prompt_id"]]
        assert (row["score_chosen"], row["score_rejected"]) == (max(mine), min(mine))
    assert {row["prompt_id"] for row in pairs} == {name for name, mine in scores.items() if max(mine) > min(mine)}
    assert FilesDataset(FilesConfig(path=str(prompts.parent / "pairs.jsonl"))).sizes["rankings"] == len(pairs) > 0


def test_what_was_cut_short_is_gone_on_with(prompts: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "BLOCK_PROMPTS", 3)
    whole = made(prompts, options(model), "whole.jsonl")
    real = generating.block_file
    with monkeypatch.context() as broken:

        def full(folder: Path, stage: str, number: int, suffix: str) -> Path:
            if number == 2:
                raise RunError("the disk is full")
            return real(folder, stage, number, suffix)

        broken.setattr(generating, "block_file", full)
        with pytest.raises(RunError, match="disk is full"):
            made(prompts, options(model))
    done = prompts.parent / ".out.jsonl.work" / "generate-000001.done"
    first = done.stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"--resume: seed was 0 .* and is 1 now"):
        made(prompts, options(model, seed=1), resume=True)
    assert done.stat().st_mtime_ns == first
    assert made(prompts, options(model), resume=True) == whole


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"write": "best"}, ConfigError, "--write best needs a grader or reward"),
        ({"judge": "num_tokens", "write": "pairs", "num_samples": 1}, ConfigError, "two completions of a prompt"),
        ({"judge": "num_token"}, ConfigError, "Did you mean 'num_tokens'"),
        ({"rollout": RolloutConfig(max_tokens=64)}, ConfigError, "no room for a prompt in a context of 64"),
        ({"rollout": RolloutConfig(max_staleness=1)}, ConfigError, "max_staleness: is of training"),
        ({"model": "./nowhere"}, ConfigError, "not a model folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_begun(
    prompts: Path, model: str, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        made(prompts, replace(options(model), **changed))
    assert not list(prompts.parent.glob(".*"))


def test_a_prompt_that_cannot_be_read_is_named(prompts: Path, model: str) -> None:
    with prompts.open("a") as more:
        more.write('{"prompt": ""}\n')
    with pytest.raises(DataError, match=r"prompts.jsonl, line 11: `prompt` is empty"):
        made(prompts, options(model))


def test_grades_streamed_are_those_in_memory(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = prompts.parent / "graded.jsonl"
    pocket = [{"prompt": "what is 1 plus 1 ?", "chosen": f"{n}", "rejected": "word " * n} for n in range(1, 30)]
    file.write_text(
        "".join(json.dumps(row) + "\n" for row in [*pocket, {"prompt": "", "chosen": "a", "rejected": "b"}])
    )
    plugin = prompts.parent / "short.py"
    plugin.write_text(
        "from rlhf import hookimpl\nfrom rlhf.types import Grade\n\n\n"
        "class Short:\n    axis = 'helpful'\n\n    def __init__(self, config, parts):\n        pass\n\n"
        "    def grade(self, rollouts):\n"
        "        return [Grade(axis='helpful', score=1 / (1 + len(r.completion.text))) for r in rollouts]\n\n\n"
        "@hookimpl\ndef register_graders(register):\n    register('short', Short)\n"
    )
    told = []
    for name, more in (("memory", []), ("streamed", ["--runtime", "inline"])):
        out = prompts.parent / f"{name}.jsonl"
        words = ["grade", str(file), "--grader", "short", "--plugin", str(plugin), "--out", str(out), "--json", *more]
        assert run_command(words) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["graders"] == told[1]["graders"]
    assert told[0]["rows_left_out"] == told[1]["rows_left_out"] == 1
    assert (prompts.parent / "memory.jsonl").read_bytes() == (prompts.parent / "streamed.jsonl").read_bytes()
