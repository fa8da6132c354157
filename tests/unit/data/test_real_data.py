"""Public data sets as they are: the right format is found and every row is read, or its fault is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.data.dataset import FilesConfig, FilesDataset
from rlhf.data.files import read_rows
from rlhf.data.formats import detect
from rlhf.errors import DataError

# file: format, usable rows, rows with a fault (equal completions, an empty answer, two turns of one role)
TABLE = {
    "pref/dpo_en_demo.jsonl": ("sharegpt_preference", 172, 0),
    "pref/dpo_zh_500.jsonl": ("sharegpt_preference", 308, 0),
    "pref/dpo_zh_demo.jsonl": ("sharegpt_preference", 183, 0),
    "pref/hh_harmless_base_test.jsonl": ("transcript_preference", 1339, 7),
    "pref/hh_helpful_base_test.jsonl": ("transcript_preference", 1361, 6),
    "pref/kto_en_demo.jsonl": ("labelled", 182, 0),
    "pref/oasst_rm_zh.jsonl": ("alpaca_ranking", 492, 5),
    "sft/dolly_eval_200.jsonl": ("alpaca", 131, 0),
    "sft/glaive_toolcall_en_demo.jsonl": ("sharegpt", 177, 0),
    "sft/gpteacher_roleplay.jsonl": ("alpaca", 1130, 0),
    "sft/oasst_sft_zh.jsonl": ("alpaca", 439, 0),
    "sft/tinker_conversations.jsonl": ("messages", 68, 0),
    "sft/v1_sft_demo.jsonl": ("messages", 277, 0),
    "text/c4_demo.jsonl": ("text", 180, 0),
    "text/names.txt": ("text", 1, 0),
    "text/tf1_fables.jsonl": ("prompt", 71, 0),
    "text/tinyshakespeare.txt": ("text", 6283, 0),
    "text/tinystories.txt": ("text", 1041, 0),
    "text/wikitext2.txt": ("text", 1160, 0),
    "text/wizard_of_oz.txt": ("text", 1, 0),
    "judge/hhh_alignment.jsonl": ("preference", 221, 0),
    "math/deepmath_rl.jsonl": ("prompt_messages", 895, 0),
    "honest/truthfulqa_judge_info.jsonl": ("prompt_completion", 2945, 0),
}
KINDS = {
    "text": "texts",
    "prompt": "prompts",
    "prompt_messages": "prompts",
    "labelled": "labelled",
    "sharegpt": "demonstrations",
    "messages": "demonstrations",
    "alpaca": "demonstrations",
    "prompt_completion": "demonstrations",
}
UNKNOWN = ["pref/oasst_en_100_trees.jsonl", "sft/self_instruct_seed_tasks.jsonl", "sft/synthetic_persona_chat.jsonl"]


@pytest.mark.parametrize("file", TABLE)
def test_format_and_rows(data_dir: Path, file: str) -> None:
    name, usable, faulty = TABLE[file]
    path = str(data_dir / file)
    assert detect(next(iter(read_rows([path]))).values, file).name == name
    dataset = FilesDataset(FilesConfig(path=path, on_bad_row="skip"))
    assert (dataset.sizes[KINDS.get(name, "rankings")], dataset.bad_rows) == (usable, faulty)
    if faulty:
        with pytest.raises(DataError, match=f"{faulty} of {usable + faulty} rows are bad: .*{Path(file).name}, line"):
            FilesDataset(FilesConfig(path=path))


@pytest.mark.parametrize("file", UNKNOWN)
def test_shapes_of_no_known_format_are_refused(data_dir: Path, file: str) -> None:
    with pytest.raises(DataError, match="no known format has the columns"):
        FilesDataset(FilesConfig(path=str(data_dir / file)))


def test_columns_make_a_known_format_of_an_unknown_one(data_dir: Path) -> None:
    config = FilesConfig(
        path=str(data_dir / "math/gsm8k_train.jsonl"),
        columns={"prompt": "question", "reference": "answer"},
        chat=True,
        max_rows=50,
    )
    dataset = FilesDataset(config)
    prompt = next(dataset.prompts(seed=0))
    assert dataset.sizes == {"prompts": 50}
    assert prompt.messages is not None
    assert prompt.reference is not None
    assert "####" in prompt.reference
