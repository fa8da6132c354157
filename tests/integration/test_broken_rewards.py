"""A broken reward never looks like a bad policy: what becomes of a run is what its recipe says, in every case."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import rlhf
from rlhf.errors import RewardError
from tests.integration.broken_rewards import ERRORS, SECRET, broken

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRET)


@pytest.mark.parametrize("name", ERRORS)
def test_by_default_it_stops_the_run_which_says_what_happened_and_keeps_the_row(tmp_path: Path, name: str) -> None:
    with pytest.raises(RewardError) as caught:
        rlhf.train(broken(tmp_path, name), out=tmp_path / "run")
    assert str(caught.value).startswith(f"reward '{name}' failed on 24 of 24 completions, first (prompt ")
    assert f": {ERRORS[name]}; the first one and its traceback are in " in str(caught.value)
    kept = json.loads((tmp_path / "run" / "failed_rewards" / f"{name}.json").read_text())
    assert kept["error"] == ERRORS[name]
    assert kept["prompt"]["messages"] or kept["prompt"]["text"]
    assert "text" in kept["completion"]
    _require_no_secret(tmp_path / "run")


@pytest.mark.parametrize("name", ["raises", "exits", "hangs", "half_the_rows", "not_a_number", "prints_secrets"])
def test_with_a_penalty_the_run_goes_on_and_counts(tmp_path: Path, name: str) -> None:
    recipe = broken(tmp_path, name, on_error="penalty", penalty=-3, max_error_rate=1.0)
    run = rlhf.train(recipe, out=tmp_path / "run")
    for step in run.metrics:
        assert step[f"reward/{name}/errors"] == 24
        assert step[f"reward/{name}"] == -3
        assert step["reward/mean"] == pytest.approx(step["reward/num_tokens"] - 3)
    _require_no_secret(tmp_path / "run")


def test_rows_that_are_dropped_are_counted_and_do_not_train(tmp_path: Path) -> None:
    recipe = broken(tmp_path, "raises", on_error="drop", max_error_rate=1.0)
    with pytest.raises(RewardError, match="the reward failed on every completion of step 1: reward 'raises': raised"):
        rlhf.train(recipe, out=tmp_path / "run")


@pytest.mark.parametrize("on_error", ["drop", "penalty"])
def test_one_that_fails_too_often_stops_the_run_in_any_case(tmp_path: Path, on_error: str) -> None:
    more = {"penalty": 0.0} if on_error == "penalty" else {}
    recipe = broken(tmp_path, "half_of_them", on_error=on_error, max_error_rate=0.25, **more)
    file = tmp_path / "broken.py"
    file.write_text(file.read_text() + HALF_OF_THEM)
    with pytest.raises(RewardError, match=r"failed on \d+ of the last 48 completions, which is more than"):
        rlhf.train(recipe, out=tmp_path / "run")


HALF_OF_THEM = """

def half_of_them(prompt, completion):
    if hash(prompt) % 2:
        raise ValueError("odd")
    return 1.0
"""


def test_one_that_forks_is_none_the_worse(tmp_path: Path) -> None:
    run = rlhf.train(broken(tmp_path, "forks"), out=tmp_path / "run")
    assert all(math.isfinite(step["reward/mean"]) for step in run.metrics)
    assert not (tmp_path / "run" / "failed_rewards").exists()


def _require_no_secret(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
