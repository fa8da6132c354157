"""The shipped recipes of the embedded world, shrunk until each runs in seconds: the same methods, tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.recipe_file import read_yaml, shipped_recipes

Recipe = dict[str, Any]

_PLUGINS = Path(__file__).resolve().parents[1] / "plugins"

_MODEL = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "mlp_size": 64}
_DATA = {"num_prompts": 60, "num_demonstrations": 240, "num_rankings": 120, "num_held_out": 12}
_ALGORITHM = {"steps": 2, "batch_size": 8, "prompts_per_step": 6, "minibatch_size": 8, "samples_per_prompt": 3}
_SMALLER = {"max_sampling_rounds": 2}


def methods() -> list[str]:
    """Shipped recipes that need nothing from outside: no variable to give."""
    return sorted(name for name, path in shipped_recipes().items() if not _has_blanks(read_yaml(path)))


def shrunk(name: str, runtime: str = "inline", engine: str = "torch") -> Recipe:
    """A shipped recipe with every size cut down."""
    recipe: Recipe = read_yaml(shipped_recipes()[name])
    recipe["runtime"] = {"type": runtime, "threads": 1}
    recipe["trackers"] = []
    defaults = dict(recipe.get("defaults") or {})
    defaults.setdefault("held_out_rows", 8)
    recipe["defaults"] = defaults | {"engine": {"type": engine}}
    stages = list(recipe["stages"].values()) if "stages" in recipe else [recipe]
    for stage in stages:
        # A gradient that is only rounding must not become a step of its sign.
        stage["optimizer"] = {**(stage.get("optimizer") or {}), "eps": 1e-3}
        if stage.get("reward") == "pocket_gold":  # an untrained model is never right, and nothing would be learned
            stage["reward"] = f"{_PLUGINS / 'brevity.py'}:brevity"
    for table in (defaults, *stages):
        if isinstance(table.get("data"), Mapping) and table["data"].get("type") == "pocket":
            table["data"] = dict(table["data"]) | _DATA
        if isinstance(table.get("algorithm"), Mapping):
            table["algorithm"] = _cut(table["algorithm"])
        new = (table.get("model") or {}).get("new") if isinstance(table.get("model"), Mapping) else None
        if new:
            table["model"] = {**table["model"], "new": {**new, **_MODEL}}
        if "held_out_rows" in table:
            table["held_out_rows"] = min(8, table["held_out_rows"])
    if recipe.get("evaluation"):
        recipe["evaluation"] = {**recipe["evaluation"], "num_prompts": 9}
    return recipe


def last_stage_from(recipe: Recipe, folder: Path) -> Recipe:
    """The last stage alone, on the models that an inline run of the whole recipe left in `folder`."""
    if "stages" not in recipe:
        return recipe
    name = list(recipe["stages"])[-1]
    alone = {key: value for key, value in recipe.items() if key != "evaluation"}
    return alone | {"stages": {name: _resolved(recipe["stages"][name], folder)}}


def _cut(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """Every count at most what a test can afford; passes over the data become steps."""
    cut = {key: min(value, _ALGORITHM[key]) if key in _ALGORITHM else value for key, value in algorithm.items()}
    if "epochs" in cut and "prompts_per_step" not in cut:
        del cut["epochs"]
        cut["steps"] = _ALGORITHM["steps"]
    return {key: min(value, _SMALLER[key]) if key in _SMALLER else value for key, value in cut.items()}


def _has_blanks(raw: Mapping[str, Any]) -> bool:
    return any(value is None for value in (raw.get("variables") or {}).values())


def _resolved(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and value.startswith("stage:"):
        return str(folder / value.removeprefix("stage:") / "model")
    if isinstance(value, Mapping):
        return {key: _resolved(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, folder) for item in value]
    return value
