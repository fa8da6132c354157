"""docs/hooks.md, docs/recipes.md and docs/data.md are what the code says today."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from rlhf.cli.hooks import Hook, hook_reference
from rlhf.data.formats import detect
from rlhf.plugins import load_plugins
from rlhf.recipe import Recipe, StageConfig


@pytest.fixture(scope="module")
def generator(repo_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", repo_root / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["hooks.md", "recipes.md", "data.md"])
def test_page_is_up_to_date(generator: ModuleType, repo_root: Path, page: str) -> None:
    pages = {path.name: text for path, text in generator.pages().items()}
    written = (repo_root / "docs" / page).read_text(encoding="utf-8")
    assert written == pages[page], f"docs/{page} is stale: run `make docs`"


@pytest.mark.parametrize("hook", hook_reference(), ids=lambda hook: hook.name)
def test_hook_is_documented_with_its_exact_signature(repo_root: Path, hook: Hook) -> None:
    text = (repo_root / "docs" / "hooks.md").read_text(encoding="utf-8")
    assert f"## `{hook.name}`\n\n```python\n{hook.signature}\n```\n" in text
    # When it is called, in which process, and what becomes of the result.
    assert "When: " in hook.doc
    assert "Where: " in hook.doc


def test_hook_reference_keeps_annotations_as_written() -> None:
    signatures = {hook.name: hook.signature for hook in hook_reference()}
    assert signatures["register_rewards"] == "register_rewards(register: Register) -> None"
    assert signatures["on_rollouts"] == "on_rollouts(step: int, rollouts: Sequence[Rollout]) -> None"


def test_every_key_of_a_recipe_is_documented(repo_root: Path) -> None:
    text = (repo_root / "docs" / "recipes.md").read_text(encoding="utf-8")
    missing = [f"{model.__name__}.{name}" for model, name in every_key() if f"| `{name}` |" not in section(text, model)]
    assert not missing


def test_every_built_in_part_is_documented(repo_root: Path) -> None:
    text = (repo_root / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [e.name for e in load_plugins().registry.entries() if f"\n#### `{e.name}`\n" not in text] == []


def test_rows_shown_are_of_the_formats_there_are(repo_root: Path) -> None:
    text = (repo_root / "docs" / "data.md").read_text(encoding="utf-8")
    shown = [json.loads(line) for line in text.partition("```json\n")[2].partition("```")[0].splitlines()]
    found = [detect(row, "docs/data.md").name for row in shown]
    assert found == ["messages", "prompt_completion", "preference", "ranking", "labelled", "prompt", "text"]


def every_key() -> Iterator[tuple[type[BaseModel], str]]:
    for model in (Recipe, StageConfig):
        yield from ((model, name) for name in model.model_fields)


def section(text: str, model: type[BaseModel]) -> str:
    return text.partition(f"\n## {model.__name__}\n")[2].partition("\n## ")[0]
