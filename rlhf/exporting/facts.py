"""What a model card says, gathered: how the model was made, from which files, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlhf.config import ModelConfig, Part
from rlhf.data.files import read_rows_and_faults, sources_at
from rlhf.errors import ConfigError, DataError
from rlhf.evaluation.held_out import HeldOutFigure, held_out_figures
from rlhf.evaluation.run_folder import RunRecord, read_run, stage_entries
from rlhf.evaluation.three_h import AxisRow, axis_rows
from rlhf.exporting.source import Source, is_hub_name
from rlhf.recipe import Recipe, StageConfig, load_recipe
from rlhf.runtime.checkpoints.manifest import record_of
from rlhf.tracking.summary import SUMMARY_NAME


@dataclass(frozen=True)
class DataFile:
    """Something a stage learned from."""

    stage: str
    name: str
    """A file as the recipe names it, a hub data set, or a data set by its type."""
    rows: int | None = None
    sha256: str = ""
    hub: str = ""
    """The hub's name for it."""
    note: str = ""


@dataclass(frozen=True)
class StageFacts:
    """One stage: method, model and length."""

    name: str
    method: str
    began_with: str
    tuned: str
    steps: int | None
    seconds: float | None
    held_out: tuple[HeldOutFigure, ...]


@dataclass(frozen=True)
class RunFacts:
    """A run up to the stage whose model is exported."""

    name: str
    stages: tuple[StageFacts, ...]
    data: tuple[DataFile, ...]
    base: str
    """What the first of the models this one descends from began with; empty where that was random weights."""
    methods: tuple[str, ...]
    """That made this model out of it, in order."""
    seed: int
    recipe_hash: str
    recipe_text: str
    paper: str
    suite: str = ""
    axes: tuple[AxisRow, ...] = ()
    labels: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def run_facts(source: Source) -> RunFacts | None:
    """None of a model that is of no run. Raises `UserError` where its recipe cannot be read any more."""
    if source.run is None:
        return None
    recipe = load_recipe(source.run / "recipe.yaml")
    record = read_run(source.run)
    names = list(recipe.stages)
    last = source.stage or names[-1]
    if last not in names:
        raise ConfigError(f"{source.run / 'recipe.yaml'} has no stage {last!r}")
    told = names[: names.index(last) + 1]
    line = _line(recipe, last)
    axes, labels = _evaluation(recipe, record, last)
    versions = record.summary.get("versions")
    return RunFacts(
        name=recipe.name,
        stages=tuple(_stage(recipe, name, record) for name in told),
        data=tuple(fact for name in told for fact in _data(name, recipe.stages[name].data, _ended(source, name))),
        base=recipe.stages[line[0]].model.path or "",
        methods=tuple(dict.fromkeys(recipe.stages[name].algorithm.type for name in line)),
        seed=recipe.seed,
        recipe_hash=str(record.summary.get("recipe_hash") or recipe.digest),
        recipe_text=record.recipe_text,
        paper=recipe.paper if last == names[-1] else "",
        suite=recipe.evaluation.suite if recipe.evaluation and axes else "",
        axes=axes,
        labels=labels,
        versions=versions if isinstance(versions, Mapping) else {},
    )


# --- stages ----------------------------------------------------------------------------------------------------------


def _stage(recipe: Recipe, name: str, record: RunRecord) -> StageFacts:
    config = recipe.stages[name]
    entries = {str(entry.get("name")): entry for entry in stage_entries(record.summary)}
    own = next((dict(stage.summary) for stage in record.stages if stage.name == name), {})
    entry: Mapping[str, Any] = entries.get(name) or own
    return StageFacts(
        name=name,
        method=config.algorithm.type,
        began_with=_named(config.model),
        tuned=_tuned(config),
        steps=entry.get("steps"),
        seconds=entry.get("seconds"),
        held_out=tuple(held_out_figures(name, entry)),
    )


def _named(model: ModelConfig) -> str:
    if model.path is None:
        return "random weights"
    if model.path.startswith("stage:"):
        return f"stage {model.path.removeprefix('stage:')}"
    return model.path + (f" at {model.revision}" if model.revision else "")


def _tuned(config: StageConfig) -> str:
    lora = config.model.lora
    return "all weights" if lora is None else f"LoRA, rank {lora.rank}, alpha {lora.alpha:g}"


def _line(recipe: Recipe, stage: str) -> list[str]:
    """The stages whose model this one's descends from, and it, in order."""
    path = recipe.stages[stage].model.path or ""
    earlier = _line(recipe, path.removeprefix("stage:")) if path.startswith("stage:") else []
    return [*earlier, stage]


# --- data ------------------------------------------------------------------------------------------------------------


def _ended(source: Source, stage: str) -> float | None:
    """When a stage ended, by the clock of the machine that wrote its summary."""
    assert source.run is not None
    for folder in (source.run / stage, source.run):
        if (folder / SUMMARY_NAME).is_file():
            return (folder / SUMMARY_NAME).stat().st_mtime
    return None


def _data(stage: str, part: Part, ended: float | None) -> Iterator[DataFile]:
    """The files and hub sets of a data part, those inside a mixture too; or the part by its type."""
    sources = part.options.get("sources")
    if part.type == "mixture" and isinstance(sources, list | tuple):
        for inner in sources:
            yield from _data(stage, Part.model_validate(dict(inner)), ended)
        return
    paths = part.options.get("path")
    if paths is None:
        given = part.options.get("rows")
        rows = len(given) if isinstance(given, list | tuple) else None
        yield DataFile(stage, part.type, rows, note="in the recipe" if rows else "made by the data set itself")
        return
    for path in [paths] if isinstance(paths, str) else paths:
        yield from _files(stage, str(path), part, ended)


def _files(stage: str, path: str, part: Part, ended: float | None) -> Iterator[DataFile]:
    try:
        found = sources_at(path)
    except DataError:
        yield DataFile(stage, path, note="not there when this was exported")
        return
    for source in found:
        if isinstance(source, str):
            revision = part.options.get("revision")
            yield DataFile(stage, source, hub=source, note=f"hub data set, {revision or 'newest revision'}")
        else:
            yield _file(stage, path if len(found) == 1 else f"{path}: {source.name}", source, part, ended)


def _file(stage: str, name: str, file: Path, part: Part, ended: float | None) -> DataFile:
    found = file.stat()
    rows, sha256 = _read(file, str(part.options.get("documents", "blank")), found.st_mtime_ns)
    note = "changed since the stage ended" if ended is not None and found.st_mtime > ended else ""
    return DataFile(stage, name, rows, sha256, note=note)


@lru_cache(maxsize=64)  # stages often share a file, and it may be large
def _read(file: Path, documents: Any, _: int) -> tuple[int | None, str]:
    """Rows, where they can be read, and SHA-256; the last argument is when the file was changed."""
    try:
        rows = sum(1 for _ in read_rows_and_faults([str(file)], documents))
    except DataError:
        rows = None
    return rows, record_of(file).sha256


def hub_sets(facts: RunFacts | None) -> list[str]:
    """Data sets the hub knows."""
    return sorted({fact.hub for fact in facts.data if is_hub_name(fact.hub)}) if facts else []


# --- evaluation ------------------------------------------------------------------------------------------------------


def _evaluation(recipe: Recipe, record: RunRecord, stage: str) -> tuple[tuple[AxisRow, ...], tuple[str, ...]]:
    """The 3H table, and its columns that speak of this stage's model, or of what it is compared with."""
    config = recipe.evaluation
    if config is None:
        return (), ()
    ours = f"stage:{stage}"
    if config.after.model == ours:
        wanted: tuple[str, ...] = ("before", "after")
    elif config.before is not None and config.before.model == ours:
        wanted = ("before",)
    else:
        return (), ()
    rows = tuple(axis_rows(record))
    return rows, tuple(label for label in wanted if any(label in row.estimates for row in rows))
