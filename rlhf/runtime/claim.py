"""The folder of a run: who may write into it, and which recipe it belongs to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf.errors import ConfigError, RunError, UserError
from rlhf.recipe import Recipe, load_recipe
from rlhf.runtime.checkpoints import write_whole
from rlhf.runtime.plugin_copies import keep_plugin_files, require_same_plugin_files
from rlhf.runtime.run_lock import LOCK_NAME, locked
from rlhf.tracking.summary import SUMMARY_NAME, read_summary

RECIPE_NAME = "recipe.yaml"


@contextmanager
def claimed(folder: Path, recipe: Recipe, note: Callable[[str], None], *, resume: bool) -> Iterator[None]:
    """Hold the run's folder, with the resolved recipe and its plugin files in it; never another run's.

    A run that fails before its first step leaves no folder: the mended command may have the name.
    """
    with locked(folder):
        if resume:
            _refuse_other_recipe(folder, recipe)
        elif any(path.name != LOCK_NAME for path in folder.iterdir()):
            raise ConfigError(f"run folder {folder} exists; continue it with --resume, or give another with --out DIR")
        kept, notes = keep_plugin_files(recipe, folder)
        write_whole(folder / RECIPE_NAME, kept.as_yaml())
        for text in notes:
            note(text)
        try:
            yield
        except (RunError, UserError):
            if not resume and _holds_nothing(folder):
                shutil.rmtree(folder)
            raise


def how_to_go_on(folder: Path) -> str:
    """The command that takes the run up again."""
    return f"continue with: rlhf train {folder / RECIPE_NAME} --resume --out {folder}"


def _holds_nothing(folder: Path) -> bool:
    """Neither figures, nor a checkpoint, nor a batch or reward kept for inspection."""
    kept = [path for name in ("checkpoints", "not_finite", "failed_rewards") for path in folder.rglob(name)]
    return not kept and not any(path.stat().st_size for path in folder.rglob("*.jsonl"))


def _refuse_other_recipe(folder: Path, recipe: Recipe) -> None:
    saved = folder / RECIPE_NAME
    if not saved.is_file() and any(stage.checkpoint.upload for stage in recipe.stages.values()):
        return  # another machine may have uploaded what this one has not
    if not saved.is_file():
        raise ConfigError(f"--resume: {folder} holds no run (no {RECIPE_NAME})")
    begun = load_recipe(saved)
    if begun.digest != recipe.digest:
        raise ConfigError(
            f"--resume: the recipe differs from the one {folder} was begun with: {_differences(begun, recipe)}; to go "
            f"on as it was begun: rlhf train {saved} --resume --out {folder}"
        )
    require_same_plugin_files(recipe, folder)
    if (folder / SUMMARY_NAME).is_file() and "stages" in read_summary(folder):  # a single stage's own has no stages
        raise ConfigError(f"--resume: the run in {folder} is finished; see {folder / SUMMARY_NAME}")


def _differences(one: Recipe, other: Recipe) -> str:
    """Settings that differ, with both values: `seed: 0 -> 1, ...`."""
    before, after = (_flat(recipe.deciding()) for recipe in (one, other))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        leaves |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return leaves
