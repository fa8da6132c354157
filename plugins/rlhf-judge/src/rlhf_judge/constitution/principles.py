"""The principles of a constitution, and the files they are written in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from rlhf import PartConfig
from rlhf.errors import ConfigError


class Principle(PartConfig):
    """One principle: what a critic is asked about an answer, and how the answer is then to be rewritten.

    Also read from `rule` (one sentence an answer should keep, from which both requests are made), and from rows of the
    public critique-revision data (`prompt` and `edit_request`).
    """

    id: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revision: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        rest = {key: inner for key, inner in value.items() if key not in ("rule", "prompt", "edit_request")}
        if isinstance(value.get("rule"), str):
            rule = value["rule"].strip()
            return rest | {
                "critique": f"Point out every way in which the answer breaks this rule: {rule}",
                "revision": f"Rewrite the answer so that it keeps this rule and stays as useful as that allows: {rule}",
            }
        if "edit_request" in value:
            asked = value.get("prompt", "")
            critique = asked if isinstance(asked, str) else str(asked[0]) if asked else ""
            return rest | {
                "critique": _between(critique, "CritiqueRequest:", "Critique:"),
                "revision": _between(str(value["edit_request"]), "RevisionRequest:", "Revision:"),
            }
        return value


def read_constitution(source: str | Path | Sequence[str] | None = None) -> tuple[Principle, ...]:
    """The principles of a file (`.yaml` or `.json`: a list; `.jsonl`: one a line), of a list of rules, or the package's
    own where there is no source.

    Raises:
        ConfigError: no such file, or an entry that is no principle, named by its place.
    """
    if source is None:
        text = (resources.files("rlhf_judge.constitution") / "default.yaml").read_text(encoding="utf-8")
        return _checked(yaml.safe_load(text), "default.yaml")
    if isinstance(source, str | Path):
        return _checked(_entries(Path(source)), str(source))
    return _checked([{"id": str(n), "rule": rule} for n, rule in enumerate(source, 1)], "constitution")


def chosen(principles: Sequence[Principle], how_many: int | None, key: str) -> list[Principle]:
    """So many of the principles, drawn by `key`, in the order of the constitution; all of them for None."""
    drawn = _shuffled(principles, key)[:how_many]
    return [principle for principle in principles if principle in drawn]


def in_turn(principles: Sequence[Principle], turn: int, key: str) -> Principle:
    """The principle of this turn (from 0); none comes twice before all had their turn."""
    return _shuffled(principles, key)[turn % len(principles)]


def _shuffled(principles: Sequence[Principle], key: str) -> list[Principle]:
    """By a hash with `key`: the same for the same row, whatever its company."""
    return sorted(principles, key=lambda p: hashlib.sha256(json.dumps([key, p.id]).encode()).digest())


def _entries(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return yaml.safe_load(text)  # JSON is YAML
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"constitution {str(path)!r} cannot be read: {reason}") from None


def _checked(entries: Any, where: str) -> tuple[Principle, ...]:
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"constitution {where!r} must be a list of principles, given {type(entries).__name__}")
    principles: dict[str, Principle] = {}
    for number, entry in enumerate(entries, 1):
        try:
            principle = Principle.model_validate(entry)
        except ValidationError as error:
            finding = error.errors(include_url=False)[0]
            place = ".".join(map(str, finding["loc"])) or "entry"
            wanted = "each is {id, rule} or {id, critique, revision}"
            raise ConfigError(
                f"constitution {where!r}, entry {number}: {place}: {finding['msg'].lower()}; {wanted}"
            ) from None
        if principle.id in principles:
            raise ConfigError(f"constitution {where!r}, entry {number}: a second principle is called {principle.id!r}")
        principles[principle.id] = principle
    return tuple(principles.values())


def _between(text: str, before: str, after: str) -> str:
    return text.strip().removeprefix(before).removesuffix(after).strip()
