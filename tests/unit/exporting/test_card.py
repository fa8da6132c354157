"""The model card says how a model was made, from what, and how it was measured; and nothing that is not so."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlhf.exporting.exported import Wanted, export

BASE = "example-org/example-model"


def card(source: Path, out: Path, **wanted: Any) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    notes: list[str] = []
    export(str(source), out, Wanted(**wanted), notes.append)
    _, front, text = (out / "README.md").read_text().split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(front)
    return found, text + "".join(notes)


def change_recipe(run: Path, **tables: Any) -> None:
    file = run / "recipe.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | tables, sort_keys=False))


def from_the_hub(run: Path) -> None:
    """As if the first stage had begun with a model of the hub."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["stages"]["sft"]["model"] = {"path": BASE, "revision": "abc123"}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def test_a_card_of_a_run(run: Path, tmp_path: Path, rows: Path) -> None:
    from_the_hub(run)
    front, text = card(run, tmp_path / "mine")
    assert front == {
        "base_model": BASE,
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rlhf", "sft"],
    }
    assert text.startswith("# mine\n\nThe model of stage `tuned`, as safetensors")
    assert f"It descends from [{BASE}](https://huggingface.co/{BASE})" in text
    assert f"| sft | sft | {BASE} at abc123 | all weights | 4 |" in text
    assert "| tuned | sft | stage sft | LoRA, rank 4, alpha 16 | 6 |" in text
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    assert f"| tuned | {rows} | 48 | `{digest}` |  |" in text
    assert "| reward | rows | 20 | – | in the recipe |" in text
    assert "| tuned | loss, nats a token | " in text
    assert "Helpful, honest, harmless" not in text  # it was not evaluated
    summary = json.loads((run / "summary.json").read_text())
    assert f"Seed 0, recipe {summary['recipe_hash']}." in text
    recipe = text.split("```yaml\n")[1].split("```")[0]
    assert recipe == (run / "recipe.yaml").read_text()
    assert f"torch {summary['versions']['torch']}" in text


def test_a_card_of_an_earlier_stage_stops_there(run: Path, tmp_path: Path) -> None:
    front, text = card(run / "sft", tmp_path / "out")
    assert "It began with random weights." in text
    assert "base_model" not in front
    assert "| sft | sft |" in text
    assert "| tuned | sft |" not in text


def test_a_card_of_an_adapter(run: Path, tmp_path: Path) -> None:
    """Its base is what it is loaded onto, not what the run began with."""
    from_the_hub(run)
    front, text = card(run, tmp_path / "mine", to="adapter")
    assert front["library_name"] == "peft"
    assert "base_model" not in front
    assert "lora" in front["tags"]
    assert 'from_pretrained("sft/model")' in text  # of an absolute path the end
    assert "a folder of this machine" in text  # noted on the way
    file = run / "tuned" / "model" / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": BASE}))
    front, text = card(run, tmp_path / "other", to="adapter")
    assert (front["base_model"], front["base_model_relation"]) == (BASE, "adapter")
    assert "a folder of this machine" not in text
    assert json.loads((tmp_path / "other" / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"


def test_a_model_of_no_run_has_a_short_card(run: Path, tmp_path: Path) -> None:
    model = (run / "tuned" / "model").rename(tmp_path / "found")
    front, text = card(model, tmp_path / "out")
    assert front == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["rlhf"]}
    assert "##" in text
    assert "How it was made" not in text
    assert str(tmp_path) not in text


def test_a_model_of_the_hub_is_named_as_the_base(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.extend([name, *allow_patterns])
        return str(finished_run / "sft" / "model")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    front, _ = card(Path(BASE), tmp_path / "copy")
    assert front["base_model"] == BASE
    assert "base_model_relation" not in front  # it is the same
    assert asked[0] == BASE
    assert not {"*", "*.py", "*.bin", "*.pt"} & set(asked)


def evaluated(run: Path, **sides: str) -> None:
    change_recipe(run, evaluation={"suite": "3h", **sides})
    scores = {"before": {"helpful": 0.25}, "after": {"helpful": 0.75}}
    intervals = {"before": {"helpful": [0.2, 0.3]}, "after": {"helpful": [0.7, 0.8]}}
    file = run / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | scores | {"intervals": intervals}))


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("tuned", "| helpful | 0.25 (0.20 to 0.30) | 0.75 (0.70 to 0.80) | +0.50 |"),
        ("sft", "| helpful | 0.25 (0.20 to 0.30) |\n"),
        ("reward", None),
    ],
)
def test_scores_stand_on_the_card_of_the_model_they_are_of(
    run: Path, tmp_path: Path, stage: str, expected: str | None
) -> None:
    evaluated(run, before="stage:sft", after="stage:tuned")
    _, text = card(run / stage, tmp_path / "out")
    assert ("Suite `3h`" in text) == (expected is not None)
    assert expected is None or expected in text


def test_data_that_changed_or_is_gone_is_said(run: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    newer = tmp_path / "new|er.jsonl"
    newer.write_text('{"text": "a"}\n')
    os.utime(newer, (2e9, 2e9))
    mixed = [
        {"type": "files", "path": str(newer), "share": 1},
        {"type": "files", "path": str(tmp_path / "gone.jsonl"), "share": 1},
        {"type": "files", "path": "hub:example-org/talks", "share": 1},
        {"type": "pocket", "share": 1},
    ]
    recipe["stages"]["tuned"]["data"] = {"type": "mixture", "sources": mixed}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    front, text = card(run, tmp_path / "out")
    name = str(newer).replace("|", "\\|")
    digest = hashlib.sha256(newer.read_bytes()).hexdigest()
    assert f"| tuned | {name} | 1 | `{digest}` | changed since the stage ended |" in text
    assert f"| tuned | {tmp_path / 'gone.jsonl'} | – | – | not there when this was exported |" in text
    assert "| tuned | example-org/talks | – | – | hub data set, newest revision |" in text
    assert "| tuned | pocket | – | – | made by the data set itself |" in text
    assert front["datasets"] == ["example-org/talks"]


def test_a_recipe_cannot_break_out_of_its_block(run: Path, tmp_path: Path) -> None:
    change_recipe(run, description="```\n# Best model\n````")
    _, text = card(run, tmp_path / "out")
    block = text.split("\n`````yaml\n")[1].split("\n`````\n")[0]
    assert yaml.safe_load(block)["description"] == "```\n# Best model\n````"


@pytest.mark.parametrize("secret", ["hunter2hunter2", "hunterhunter"])
def test_a_card_keeps_secrets(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """A recipe with one is not read at all, unless it could be a word."""
    monkeypatch.setenv("SOME_API_KEY", secret)
    change_recipe(run, description=f"the key is {secret}")
    _, text = card(run, tmp_path / "out")
    assert secret not in text


def test_a_recipe_that_cannot_be_read_is_said(run: Path, tmp_path: Path) -> None:
    change_recipe(run, stage_of_another_age=1)
    _, text = card(run, tmp_path / "out")
    assert "How it was made" not in text
    assert "the model card leaves out how the model was made: " in text
