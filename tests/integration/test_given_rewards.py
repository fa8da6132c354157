"""Rewards given from Python, and what is wrong with a reward, found before any model is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.errors import ConfigError, PluginError
from rlhf.runtime.pipeline import prepare
from tests.tiny_runs import GRPO, MODEL, Recipe, changed, single

STAGE = {**GRPO, "model": {"new": MODEL}, "reward_model": None, "reward": "num_tokens"}


def recipe(runtime: str = "inline", **changes: Any) -> Recipe:
    return changed(single({**STAGE, **changes}, runtime), {"algorithm.steps": 1, "held_out_rows": 0})


def in_this_file(completions: list[str]) -> list[float]:
    return [float(len(text)) for text in completions]


def test_a_function_is_the_reward_of_the_stages_that_sample(tmp_path: Path) -> None:
    seen: list[str] = []

    def nested(prompt: str, completion: str) -> float:
        seen.append(prompt)
        return 2.5

    run = rlhf.train(recipe(), rewards=[nested], out=tmp_path / "run")
    assert len(seen) == 24
    assert run.metrics[0]["reward/mean"] == 2.5


def test_a_function_of_a_file_travels_by_the_file() -> None:
    checked, _ = prepare(recipe("ray"), rewards=[in_this_file, {"type": "num_tokens", "weight": 0.5}])
    assert [part.type for part in checked.stages["grpo"].reward] == ["in_this_file", "num_tokens"]
    assert checked.plugins.paths == (f"{__file__}:in_this_file",)


def scaled(completions: list[str], *, alpha: float = 1.0) -> list[float]:
    return [alpha for _ in completions]


def test_a_function_in_a_table_has_a_weight_and_options(tmp_path: Path) -> None:
    def nested(completion: str, *, alpha: float = 1.0) -> float:
        return alpha

    tables = [{"type": nested, "alpha": 2, "weight": 0.5}, {"type": scaled, "alpha": 3}]
    run = rlhf.train(recipe(), rewards=tables, out=tmp_path / "run")
    assert run.metrics[0]["reward/mean"] == 4.0


def test_a_function_in_no_file_is_refused_on_ray_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"rewards: 'lambda' is in no file .* \{\"runtime.type\": \"inline\"\}"):
        prepare(recipe("ray"), rewards=[lambda completions: [0.0] * len(completions)])


def test_a_run_without_a_stage_that_samples_has_no_use_for_rewards() -> None:
    sft = {"algorithm": {"type": "sft", "steps": 1, "batch_size": 8}, "model": {"new": MODEL}}
    with pytest.raises(ConfigError, match="rewards: no stage of 'tiny' samples, so none would be asked"):
        prepare(single(sft), rewards=[in_this_file])


def test_those_the_recipe_has_already_are_taken() -> None:
    checked, _ = prepare(recipe(), rewards=["num_tokens"])
    assert [part.type for part in checked.stages["grpo"].reward] == ["num_tokens"]


def test_a_reward_that_lacks_its_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stages.grpo: reward `reward_model` needs `reward_model: PATH` beside it"):
        prepare(recipe(), rewards=["reward_model"])


def test_what_is_no_reward_is_refused() -> None:
    with pytest.raises(ConfigError, match="rewards: a function, a name or a table is needed, given int"):
        prepare(recipe(), rewards=[3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"rewards: a list is needed, as in rewards=\[my_function\], given function"):
        prepare(recipe(), rewards=lambda completions: [0.0])  # type: ignore[arg-type]


def test_rewards_is_another_word_for_reward(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def short(completions):\n    return [0.0] * len(completions)\n")
    table = {key: value for key, value in recipe().items() if key != "reward"}
    checked, _ = prepare({**table, "rewards": [{"type": f"{tmp_path}/mine.py:short"}]})
    assert [part.type for part in checked.stages["grpo"].reward] == ["short"]


SCRIPT = """
import rlhf

def score(completions):
    return [1.0] * len(completions)

rlhf.train({recipe!r}, rewards=[score], out={out!r})
"""


def ran(script: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script.write_text(code.format(recipe=recipe(), out=str(folder)))
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=200)


def test_a_script_without_a_guard_trains_once(tmp_path: Path) -> None:
    """Processes that need its function import it up to where it trains."""
    done = ran(tmp_path / "script.py", SCRIPT + "print('after')\n", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "after\n"
    assert (tmp_path / "run" / "model").is_dir()


def test_a_script_that_trains_before_it_has_the_function_is_told_so(tmp_path: Path) -> None:
    early = SCRIPT.replace("def score", "if __name__ != '__main__':\n    rlhf.train({recipe!r})\n\ndef score")
    done = ran(tmp_path / "script.py", early, tmp_path / "run")
    assert "script.py trains when it is imported, before it defines 'score'; put that under `if __name__" in done.stderr
    assert not (tmp_path / "run").exists()


# --- before any model ------------------------------------------------------------------------------------------------

PLUGIN = """
from rlhf import PartConfig, hookimpl

def needs(completions, answr):
    return [0.0] * len(completions)

class Config(PartConfig):
    path: str = "x"

class Wants:
    def __init__(self, config, parts):
        self.columns = ("reference", config.path)

    def __call__(self, rollouts):
        return [0.0] * len(rollouts)

class Fails:
    def __init__(self, config, parts):
        raise FileNotFoundError(config.path)

@hookimpl
def register_rewards(register):
    register("needs", needs)
    register("wants", Wants, config=Config)
    register("fails", Fails, config=Config)
    register("misfit", lambda config: None, config=Config)
"""


@pytest.mark.parametrize(
    ("part", "error", "words"),
    [
        ("needs", ConfigError, r"reward 'needs' needs the column 'answr', which .* Did you mean 'answer'\? Columns: "),
        ({"type": "wants", "path": "axs"}, ConfigError, "needs the column 'reference'|needs the column 'axs'"),
        ("fails", ConfigError, "reward 'fails' cannot be built with these options: FileNotFoundError: x"),
        (
            "misfit",
            PluginError,
            r"'misfit' of plugin 'mine' cannot be called as factory\(config, parts\): too many",
        ),
        (
            {"type": "needs", "on_error": "penalty"},
            ConfigError,
            "`on_error: penalty` and `penalty: VALUE` need",
        ),
        ({"type": "num_tokens", "range": [1, 0]}, ConfigError, "range: the lowest value comes first"),
        (
            {"type": "num_tokens", "only_if": {"reward": "nobody", "at_least": 1}},
            ConfigError,
            "reward 'num_tokens': only_if names 'nobody', which is no reward here",
        ),
    ],
)
def test_what_is_wrong_with_a_reward_shows_before_any_model(
    tmp_path: Path, part: Any, error: type[Exception], words: str
) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    with pytest.raises(error, match=words):
        prepare({**recipe(reward=[part]), "plugins": {"paths": [str(tmp_path / "mine.py")]}})


def test_an_option_of_the_recipes_own_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        PLUGIN.replace("path: str", "timeout: str").replace("config.path", "config.timeout")
    )
    with pytest.raises(PluginError, match="reward 'wants' has an option 'timeout', which is a recipe's own key"):
        prepare({**recipe(), "plugins": {"paths": [str(tmp_path / "mine.py")]}})
