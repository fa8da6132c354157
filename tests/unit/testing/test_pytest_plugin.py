"""The fixtures, as another project's tests use them; who does not use them pays nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUGIN = "rlhf.testing.pytest_plugin"
TESTS = """
def plain(completions):
    return [float(len(text)) for text in completions]

def ranked(completions):
    return [float(place) for place, _ in enumerate(completions)]

class Grader:
    axis = "helpful"
    def grade(self, rollouts):
        from rlhf.types import Grade
        return [Grade(axis="helpful", score=1.0) for _ in rollouts]

def test_sound(rlhf_contract, rlhf_rollout, rlhf_rollouts):
    rlhf_contract.reward(plain)
    rlhf_contract.reward(plain, [rlhf_rollout("Why?", "So.", level=3)])
    rlhf_contract.grader(Grader())
    assert len(rlhf_rollouts) == 10

def test_broken(rlhf_contract):
    rlhf_contract.reward(ranked)

def test_prints(rlhf_contract, capfd):
    print("mine")
    rlhf_contract.reward(plain)
    print("still mine")
    assert capfd.readouterr().out == "mine\\nstill mine\\n"
"""
UNUSED = """
import sys
def test_nothing_is_loaded():
    assert "rlhf.testing.pytest_plugin" in sys.modules
    loaded = [name for name in sys.modules if name.split(".")[0] in ("rlhf", "pydantic", "numpy", "torch")]
    assert sorted(loaded) == ["rlhf", "rlhf.testing", "rlhf.testing.pytest_plugin"]
"""


def pytest_in(folder: Path, tests: str) -> str:
    (folder / "test_them.py").write_text(tests)
    repo = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": repo, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", "--rootdir", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_fixtures_hold_rewards_and_graders_to_the_contract(tmp_path: Path) -> None:
    said = pytest_in(tmp_path, TESTS)
    assert "1 failed, 2 passed" in said, said
    assert "reward ranked, any order: " in said


def test_nothing_is_loaded_where_no_fixture_is_asked_for(tmp_path: Path) -> None:
    said = pytest_in(tmp_path, UNUSED)
    assert "1 passed" in said, said


def test_it_is_declared_for_pytest_to_find(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"rlhf": PLUGIN}


@pytest.mark.parametrize("name", ["check_reward", "check_grader", "check_plugin", "rollout", "ordinary_rollouts"])
def test_names_are_found_on_first_use(name: str) -> None:
    import rlhf.testing

    assert name in rlhf.testing.__all__
    assert callable(getattr(rlhf.testing, name))
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        rlhf.testing.chek  # type: ignore[attr-defined]  # noqa: B018
