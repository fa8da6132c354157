"""The folder of a run: who may write into it, and which recipe it belongs to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf.errors import ConfigError, RunError, UserError
from rlhf.recipe import Recipe, load_recipe
from rlhf.runtime.checkpoints import write_whole
from rlhf.runtime.plugin_copies import keep_plugin_files, require_same_plugin_files
from rlhf.runtime.resumed_recipe import require_resumable
from rlhf.runtime.run_lock import LOCK_NAME, locked
from rlhf.tracking.summary import SUMMARY_NAME, read_summary

RECIPE_NAME = "recipe.yaml"


@contextmanager
def claimed(folder: Path, recipe: Recipe, note: Callable[[str], None], *, resume: bool, strict: bool) -> Iterator[None]:
    """Hold the run's folder, with the resolved recipe and its plugin files in it; never another run's.

    With `strict` a run is taken up only where its rest will be bit for bit what it would have been. One that fails
    before its first step leaves no folder: the mended command may have the name.
    """
    with locked(folder):
        lines = _require_own(folder, recipe, strict=strict) if resume else []
        if not resume and any(path.name != LOCK_NAME for path in folder.iterdir()):
            raise ConfigError(
                f"run folder {folder} exists; continue it with --resume, or give another with --out DIR (from Python: "
                "resume=True, out=DIR)"
            )
        kept, notes = keep_plugin_files(recipe, folder)
        write_whole(folder / RECIPE_NAME, kept.as_yaml())
        for text in [*lines, *notes]:
            note(text)
        try:
            yield
        except (RunError, UserError):
            if not resume and _holds_nothing(folder):
                shutil.rmtree(folder)
            raise


def way_back(folder: Path) -> str:
    """The command that takes the run up again."""
    return f"rlhf train {folder / RECIPE_NAME} --resume --out {folder}"


def _holds_nothing(folder: Path) -> bool:
    """Neither figures, nor a checkpoint, nor a batch or reward kept for inspection."""
    kept = [path for name in ("checkpoints", "not_finite", "failed_rewards") for path in folder.rglob(name)]
    return not kept and not any(path.stat().st_size for path in folder.rglob("*.jsonl"))


def _require_own(folder: Path, recipe: Recipe, *, strict: bool) -> list[str]:
    """Refuse what is no run, one with other results, and one that is done. Lines to say of what rounds otherwise."""
    saved = folder / RECIPE_NAME
    if not saved.is_file() and any(stage.checkpoint.upload for stage in recipe.stages.values()):
        return []  # another machine may have uploaded what this one has not
    if not saved.is_file():
        raise ConfigError(f"--resume: {folder} holds no run (no {RECIPE_NAME})")
    lines = require_resumable(load_recipe(saved), recipe, way_back(folder), strict=strict)
    require_same_plugin_files(recipe, folder)
    if (folder / SUMMARY_NAME).is_file() and "stages" in read_summary(folder):  # a single stage's own has no stages
        raise ConfigError(f"--resume: the run in {folder} is finished; see {folder / SUMMARY_NAME}")
    return lines
