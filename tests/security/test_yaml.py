"""Hostile YAML: refused in a line that names the place, in bounded time, or read as what it plainly says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rlhf.cli.exit_codes import run_command
from rlhf.errors import ConfigError, UserError
from rlhf.recipe import load_recipe
from rlhf.recipe_file import parse_override
from rlhf.runtime.pipeline import prepare
from tests.tiny_runs import PPO, SFT, Recipe, changed, pipeline, single

BASE = "algorithm: sft\nmodel: new\ndata: pocket\n"
LETTERS = "abcdefghij"


def nine_of_nine(first: str, item: str) -> str:
    """Ten lines that are 9**9 values."""
    lines = [f"a: &a {first}"]
    lines += [f"{new}: &{new} {item.format(','.join([f'*{old}'] * 9))}" for old, new in pairwise(LETTERS)]
    return "\n".join(lines) + "\n"


REFUSED: dict[str, tuple[str, str]] = {
    "python object": ("x: !!python/object/apply:os.mkdir ['MARKER']\n", "could not determine a constructor"),
    "python object, new": ("x: !!python/object/new:os.mkdir ['MARKER']\n", "could not determine a constructor"),
    "python name": ("x: !!python/name:os.system\n", "could not determine a constructor"),
    "python module": ("x: !!python/module:antigravity\n", "could not determine a constructor"),
    "a tag of its own": ("x: !function os.mkdir\n", "could not determine a constructor"),
    "billion laughs": (nine_of_nine("[x,x]", "[{}]"), "aliases multiply"),
    "billion merges": (nine_of_nine("{x: 1}", "{{<<: [{}]}}"), "aliases multiply"),
    "a value that holds itself": ("variables: &v {a: *v}\n", "holds itself"),
    "deep lists": ("x: " + "[" * 20_000 + "]" * 20_000, "nested more than"),
    "deep tables": ("x: " + "{a: " * 20_000 + "1" + "}" * 20_000, "nested more than"),
    "deep by aliases": ("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 500)), "nested more"),
    "a key twice": ("name: a\nname: b\n", "'name' is given twice"),
    "a key twice, inside": ("optimizer: {lr: 1, lr: 2}\n", "'lr' is given twice"),
    "an integer of 5000 digits": ("seed: " + "9" * 5000, "line 4"),
    "no integer": ("seed: !!int x\n", "'x' is no value"),
    "base 8": ("seed: 0777\n", "base 8 or 60"),
    "base 60": ("seed: 1:30:00\n", "base 8 or 60"),
    "not finite": ("optimizer: {lr: .inf}\n", "finite"),
    "not a number": ("optimizer: {lr: .nan}\n", "finite"),
    "NUL": ('description: "a\\0b"\n', "NUL"),
    "NUL in a key": ('"a\\0b": 1\n', "NUL"),
    "a bare control character": ("description: a\x07b\n", "not valid YAML"),
    "a key that is a switch": ("on: 1\n", "quote it"),
    "a key that is nothing": ("~: 1\n", "quote it"),
    "a key that is a list": ("? [a]\n: 1\n", "a key is a word"),
    "two documents": ("---\n" + BASE, "another document"),
    "an alias of nothing": ("name: *nope\n", "undefined alias"),
    "a switch for a name": ("name: on\n", "quote the word"),
    "binary": ("name: !!binary aGk=\n", "valid string"),
    "more than any recipe": ("description: " + "x" * 2**24 + "\n", "larger than 16 MiB"),
    "variables that multiply": (
        "variables: {a: " + "x" * 1000 + "}\ndescription: '" + "${a}" * 20_000 + "'\n",
        "used 20000 times",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.timeout(30)
def test_hostile_yaml_is_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    text, said = REFUSED[kind]
    marker, file = tmp_path / "ran", tmp_path / "mine.yaml"
    file.write_text(BASE + text.replace("MARKER", str(marker)))
    with pytest.raises(ConfigError) as refusal:
        load_recipe(file)
    message = str(refusal.value)
    assert said in message
    assert "\n" not in message
    assert len(message) < 600
    assert not marker.exists()


def test_the_command_says_it_too_and_leaves_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BASE + nine_of_nine("[x,x]", "[{}]"))
    assert run_command(["train", str(file), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}, line ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=[", "line 1"),
        ("name=!!python/object/apply:os.mkdir ['x']", "could not determine a constructor"),
        ("optimizer={lr: 1, lr: 2}", "twice"),
        ("seed=0777", "base 8"),
        ("stop=" + "[" * 5000, "nested more than"),
    ],
)
def test_overrides_are_read_as_strictly(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_override(override)


def test_words_that_yaml_twists_arrive_as_they_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        BASE + "name: 2026-11-22\ndescription: '0777 on 1:30'\noptimizer: {lr: 1e-5, eps: '1e-8'}\n"
        "rollout: {logit_bias: {5: -100}, stop: ['no', 'off', '~']}\n"
    )
    recipe = load_recipe(file)
    assert recipe.name == "2026-11-22"
    assert recipe.stages["sft"].optimizer.lr == 1e-5
    assert recipe.stages["sft"].optimizer.eps == 1e-8
    assert recipe.stages["sft"].rollout.stop == ("no", "off", "~")
    assert recipe.stages["sft"].rollout.logit_bias == {5: -100}
    again = tmp_path / "again.yaml"
    again.write_text(recipe.as_yaml())
    assert load_recipe(again) == recipe


def test_a_line_of_a_megabyte_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BASE + "description: '" + "x" * 2**20 + "'\n")
    assert len(load_recipe(file).description) == 2**20


def settings_of(recipe: Recipe) -> list[tuple[str, Any]]:
    """Every leaf by its dotted key."""

    def leaves(value: Any, at: str) -> list[tuple[str, Any]]:
        if isinstance(value, dict):
            return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{at}.{key}" if at else key)]
        return [(at, value)]

    return leaves(recipe, "")


RECIPES = (single(SFT, seed=1), pipeline())
SETTINGS = sorted({key for recipe in RECIPES for key, _ in settings_of(recipe)})
STRANGE = [10**30, -(10**30), 1e308, "", "\n", "../..", "a" * 5000, True, None, [], {}, [[]], "\ud800", "\x1b[2J"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_takes_a_strange_value_for_more_than_a_mistake(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands at a setting, checking the recipe ends well or in a user's error, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    recipe = next(r for r in RECIPES if setting in dict(settings_of(r)))
    said = []
    for value in STRANGE:
        try:
            prepare(changed(recipe, {setting: value}))
        except UserError as error:
            said.append(str(error))
    assert not [message for message in said if "\n" in message]
    assert not list(tmp_path.iterdir())


def test_every_setting_is_tried() -> None:
    assert {"seed", "name", "algorithm.steps", "stages.ppo.rollout.max_tokens"} <= set(SETTINGS)
    assert PPO["algorithm"].keys() <= {key.rsplit(".", 1)[-1] for key in SETTINGS}
