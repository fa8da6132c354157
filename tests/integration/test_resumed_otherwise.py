"""A resume under other conditions says so in lines, and with `strict_resume` does not begin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ConfigError
from tests.integration.saved_items import copied
from tests.tiny_runs import DATA, SFT, Recipe, changed, single

RECIPE: Recipe = changed(
    single(SFT), {"data": {**DATA, "num_demonstrations": 60}, "held_out_rows": 0, "checkpoint": {"every": 1, "keep": 9}}
)


@pytest.fixture(autouse=True)
def _without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its curves take longer than such a run."""
    monkeypatch.setattr("rlhf.runtime.pipeline.write_report", lambda folder: None)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run that was killed after its second step."""
    whole = rlhf.train(RECIPE, out=tmp_path / "whole")
    copied(whole.folder, tmp_path / "run", 2)
    return tmp_path / "run"


def test_patience_and_places_may_be_changed(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    free: dict[str, Any] = {"checkpoint": {"every": 0, "keep": 1}, "trackers": ["tensorboard"]}
    rlhf.train(changed(RECIPE, free), out=begun, strict_resume=True)
    assert "bit for bit" not in capfd.readouterr().err


def test_what_rounds_otherwise_is_said_or_refused(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = changed(RECIPE, {"engine.micro_batch_tokens": 64})
    with pytest.raises(ConfigError, match=r"--strict-resume: .*engine\.micro_batch_tokens: None -> 64"):
        rlhf.train(other, out=begun, strict_resume=True)
    rlhf.train(other, out=begun, resume=True)
    said = capfd.readouterr().err
    assert "engine.micro_batch_tokens: None -> 64; the run continues, not bit for bit" in said


def test_another_version_is_said_or_refused(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = begun / "conditions.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "torch": "1.0", "policy processes": "4"}))
    with pytest.raises(ConfigError, match=r"--strict-resume: .*torch: 1\.0 -> .*policy processes: 4 -> 1"):
        rlhf.train(RECIPE, out=begun, strict_resume=True)
    rlhf.train(RECIPE, out=begun, resume=True)
    said = capfd.readouterr().err
    assert "stage sft: torch: 1.0 -> " in said
    assert "stage sft: policy processes: 4 -> 1; the run continues, not bit for bit" in said


def test_another_method_is_refused(begun: Path) -> None:
    with pytest.raises(ConfigError, match=r"--resume: the recipe differs .*optimizer\.lr: 0\.01 -> 0\.5"):
        rlhf.train(changed(RECIPE, {"optimizer.lr": 0.5}), out=begun, resume=True)
