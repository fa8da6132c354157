"""clusters/recipes: each fits the hardware it is for, with a model of the size it speaks of, by `rlhf plan`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from transformers import LlamaConfig

from rlhf.cli.exit_codes import run_command
from rlhf.recipe import load_recipe

FOLDER = Path(__file__).resolve().parents[3] / "clusters" / "recipes"
SIZES = {  # hidden, intermediate, layers, heads, heads of keys and values
    "150M": (576, 1536, 30, 9, 3),
    "3B": (3072, 8192, 28, 24, 8),
    "8B": (4096, 14336, 32, 32, 8),
}
FITS = {
    "laptop": ("150M", None),
    "one-gpu": ("8B", "1x80GB"),
    "eight-gpus": ("8B", "8x80GB"),
    "several-nodes": ("3B", "16x80GB"),
}
QUICK = {"laptop", "one-gpu"}


@pytest.fixture
def rows(tmp_path: Path) -> list[str]:
    pairs, demonstrations = tmp_path / "pairs.jsonl", tmp_path / "rows.jsonl"
    asked, good, bad = "tell me of rome " * 20, "it is in italy " * 30, "no " * 60
    rankings = [{"prompt": f"{i} {asked}", "chosen": good, "rejected": bad} for i in range(300)]
    answers = [{"prompt": f"{i} {asked}", "completion": good} for i in range(300)]
    for path, table in ((pairs, rankings), (demonstrations, answers)):
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return [f"pairs={pairs}", f"demonstrations={demonstrations}"]


def model(size: str, folder: Path) -> Path:
    """The configuration of one, and no weights."""
    hidden, intermediate, layers, heads, key_heads = SIZES[size]
    LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=128256 if size != "150M" else 49152,
        max_position_embeddings=4096 if size != "150M" else 2048,
        tie_word_embeddings=size != "8B",
    ).save_pretrained(folder / size)
    return folder / size


def test_each_recipe_is_tried_and_named_after_its_file() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(FITS)
    for name in FITS:
        given = {"base": "a", "demonstrations": "b", "pairs": "c"}
        recipe = load_recipe(FOLDER / f"{name}.yaml", given)
        assert recipe.name == name
        assert list(recipe.stages) == ["sft", "reward", "ppo"]
        assert all(stage.checkpoint.every_minutes for stage in recipe.stages.values())


@pytest.mark.parametrize("name", FITS)
def test_it_fits_its_hardware(name: str, rows: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name not in QUICK and not os.environ.get("RLHF_TEST_EVERY_METHOD"):
        pytest.skip("of one kind each; all with RLHF_TEST_EVERY_METHOD=1")
    size, devices = FITS[name]
    words = ["plan", str(FOLDER / f"{name}.yaml"), f"base={model(size, tmp_path)}", *rows, "--json"]
    code = run_command(words + (["--devices", devices] if devices else []))
    told = capsys.readouterr()
    assert code == 0, told.err
    assert json.loads(told.out)["fits"] is True
