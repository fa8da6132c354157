"""Options of plain functions: keyword-only parameters with a default, given in the recipe and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf.config import RewardPart
from rlhf.errors import ConfigError
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.rewards.building import JUDGES, PlainParts, build_reward
from rlhf.types import Completion, Prompt, Rollout

CODE = """
from __future__ import annotations
from typing import Literal

def scaled(completions, *, alpha: float = 1.0, unit: Literal["words", "letters"] = "letters", extra=None):
    assert isinstance(alpha, float)
    size = len if unit == "letters" else lambda text: len(text.split())
    return [alpha * size(text) + (extra or 0) for text in completions]

def of_a_row(completion, alpha=1.0, *, level: int = 1):
    return alpha * level

def unreadable(completions, *, alpha: NoSuchType = 1.0):
    return [alpha for _ in completions]

def patient(completions, *, timeout=3):
    return [float(timeout) for _ in completions]

def none(completions):
    return [0.0 for _ in completions]
"""


def said(text: str, **columns: Any) -> Rollout:
    completion = Completion(token_ids=(5,), logprobs=(-1.0,), text=text, finish_reason="stop")
    return Rollout(prompt=Prompt(id="p", text="?", metadata=columns), completion=completion)


def reward(folder: Path, name: str, **options: Any) -> Any:
    (folder / "mine.py").write_text(CODE)
    plugins = load_plugins(PluginSettings(paths=(f"{folder}/mine.py:{name}",)), built_ins=JUDGES)
    plugins.require_healthy()
    return build_reward(RewardPart(type=name, **options), plugins.registry, PlainParts(plugins.registry))


def test_options_reach_the_function_as_their_types(tmp_path: Path) -> None:
    (score,) = reward(tmp_path, "scaled", alpha=2, unit="words")([said("one two three")])
    assert score.value == 6.0
    (score,) = reward(tmp_path, "scaled")([said("one")])
    assert score.value == 3.0


def test_without_an_annotation_any_value_is_taken(tmp_path: Path) -> None:
    (score,) = reward(tmp_path, "scaled", extra=10)([said("one")])
    assert score.value == 13.0
    (score,) = reward(tmp_path, "unreadable", alpha=7)([said("one")])
    assert score.value == 7.0


def test_a_column_of_the_name_is_taken_where_the_recipe_gives_no_option(tmp_path: Path) -> None:
    (score,) = reward(tmp_path, "of_a_row")([said("x", level=5)])
    assert score.value == 5.0
    (score,) = reward(tmp_path, "of_a_row", level=3)([said("x", level=5)])
    assert score.value == 3.0


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("scaled", {"alhpa": 2}, r"reward.alhpa: unknown key. Did you mean 'alpha'\? Known keys: alpha, extra, unit"),
        ("scaled", {"alpha": "much"}, r"reward.alpha: .*number.*'much'"),
        ("scaled", {"unit": "lines"}, "reward.unit: .*'words' or 'letters'"),
        ("none", {"alpha": 2}, r"takes no options, given alpha. A function's are its keyword-only parameters with a"),
        ("none", {"wieght": 2}, r"takes no options, given wieght. Did you mean 'weight'\?"),
        ("of_a_row", {"alpha": 2}, "reward.alpha: unknown key. Known keys: level"),
        ("patient", {"timeout": 2}, "'timeout' is a recipe's own key .* of 'patient' never gets it; rename"),
    ],
)
def test_what_is_no_option_is_refused(tmp_path: Path, name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        reward(tmp_path, name, **options)


def test_a_parameter_of_a_key_of_the_recipe_keeps_its_default(tmp_path: Path) -> None:
    (score,) = reward(tmp_path, "patient")([said("x")])
    assert score.value == 3.0
