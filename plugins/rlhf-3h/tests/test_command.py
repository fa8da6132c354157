"""By the command line: train, read the card, list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import rlhf_3h
from rlhf_3h.refusal import Refusal, RefusalConfig

PLUGIN = str(Path(rlhf_3h.__file__))  # as a file: no test needs it installed


def rlhf(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "rlhf", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_trained_by_the_command(refusal_rows: list[dict[str, str]], tmp_path: Path) -> None:
    listed = json.loads(rlhf("graders", "list", "--json", "--plugin", PLUGIN))["graders"]
    assert "refusal" in [grader["name"] for grader in listed]
    data, out = tmp_path / "rows.jsonl", tmp_path / "refusal"
    data.write_text("\n".join(map(json.dumps, refusal_rows)) + "\n", encoding="utf-8")
    card = json.loads(
        rlhf("graders", "train", "refusal", "--data", str(data), "--out", str(out), "--json", "--plugin", PLUGIN)
    )
    assert card["data"][0]["rows"] == len(refusal_rows)
    assert card["metrics"]["refuses/accuracy_low"] < card["metrics"]["refuses/accuracy"]
    assert {file["file"] for file in card["files"]} == {"model.json", "model.safetensors"}
    no_parts = None
    assert Refusal(RefusalConfig(path=str(out)), no_parts).columns == ("prompt_label",)  # type: ignore[arg-type]
