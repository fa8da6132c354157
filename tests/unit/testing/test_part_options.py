"""Options in words, and the checks that a recipe can set them and a worker receives them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from rlhf import PartConfig
from rlhf.config import Part
from rlhf.plugins import load_plugins
from rlhf.registry import Entry, Kind
from rlhf.testing.findings import run_checks
from rlhf.testing.part_options import Option, option_checks, options_of


class Wide(PartConfig):
    """Options of many types."""

    words: int = Field(default=3, ge=1)
    """How many
    words.
    """
    path: str
    style: Literal["plain", "rich"] = "plain"
    names: tuple[str, ...] = ("a", "b")
    weights: dict[str, float] = Field(default_factory=dict)
    limit: float | None = None
    strict: bool = True
    grader: Part = Part(type="kind")


def test_options_are_told_in_the_words_of_yaml() -> None:
    found = {option.name: option for option in options_of(Wide)}
    assert found["words"] == Option("words", "int", "3", "How many words.")
    assert {name: (option.type, option.default) for name, option in found.items()} == {
        "words": ("int", "3"),
        "path": ("text", "required"),
        "style": ('"plain" or "rich"', '"plain"'),
        "names": ("list of text", "[a, b]"),
        "weights": ("table of float by text", "{}"),
        "limit": ("float or null", "null"),
        "strict": ("bool", "true"),
        "grader": ("a part", "kind"),
    }
    assert options_of(None) == []


def test_every_built_in_part_can_be_told() -> None:
    for entry in load_plugins().registry.entries():
        assert all(option.type and option.default for option in options_of(entry.config)), entry.name


# --- checks ----------------------------------------------------------------------------------------------------------


class Sound(PartConfig):
    words: int = 3


class Required(PartConfig):
    words: int


class Reserved(PartConfig):
    timeout: float = 1.0


class Loose(PartConfig):
    model_config = ConfigDict(extra="ignore")
    words: int = 3


class Untyped(PartConfig):
    words: Any = 3


class WrongDefault(PartConfig):
    words: int = "many"  # type: ignore[assignment]


class NotOfOurs(BaseModel):
    words: int = 3


class Forgetful(PartConfig):
    """What it becomes is not what it accepts."""

    words: str = "a"

    @field_validator("words")
    @classmethod
    def _longer(cls, value: str) -> str:
        return value + "!"


def outcomes(config: type[BaseModel], kind: Kind = "reward", **given: Any) -> dict[str, str]:
    entry = Entry(kind, "it", lambda config, parts: None, config, "guest")
    return {f.check: f"{f.outcome}: {f.cause}" for f in run_checks("it", option_checks(entry, given))}


def test_sound_options_pass() -> None:
    assert {text.split(":")[0] for text in outcomes(Sound).values()} == {"ok"}
    assert outcomes(Sound)["options"] == "ok: 1 options, without a docstring: words"


@pytest.mark.parametrize(
    ("config", "check", "said"),
    [
        (Reserved, "options", "option 'timeout' is a key of the recipe's own table and would never arrive; rename it"),
        (Loose, "options", "Loose changes model_config"),
        (Untyped, "options", "option 'words' has the type Any"),
        (NotOfOurs, "options", "its config class NotOfOurs is no rlhf.PartConfig"),
        (WrongDefault, "default options", "the default of 'words' is not one it accepts"),
        (Forgetful, "options travel", "becomes Forgetful(words='a!"),
    ],
)
def test_a_broken_option_is_named(config: type[BaseModel], check: str, said: str) -> None:
    found = outcomes(config, words="a") if config is Forgetful else outcomes(config)
    assert found[check].startswith("failed: ")
    assert said in found[check]


def test_an_option_of_a_grader_may_have_a_rewards_names() -> None:
    assert outcomes(Reserved, "grader")["options"].startswith("ok")


def test_a_required_option_is_asked_for_and_taken() -> None:
    assert outcomes(Required)["default options"] == "skipped: needs 'words': add it.words=VALUE to the command"
    assert outcomes(Required, words=3)["default options"] == "ok: "
    assert "it.wrods: unknown key. Did you mean 'words'?" in outcomes(Required, words=1, wrods=3)["default options"]


def test_a_class_inside_a_function_cannot_be_imported_on_a_worker() -> None:
    class Inner(PartConfig):
        words: int = 3

    assert "cannot be imported" in outcomes(Inner)["options travel"]
