"""A run folder as the report sees it: what is there is read, what is missing or broken is noted, nothing crashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlhf.errors import DataError

_STAGE_FILES = ("metrics.jsonl", "samples.jsonl")
_UNFINISHED = "No summary.json: the run goes on or was cut short; figures are those of the last step logged"


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One stage: its metrics and samples by step, and its final figures, empty until it has finished."""

    name: str
    algorithm: str | None
    metrics: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run. `evaluations` are graded rows by label ("before", "after"); `problems` what could not be read."""

    folder: Path
    recipe_text: str
    summary: Mapping[str, Any]
    stages: Sequence[StageRecord]
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]]
    problems: Sequence[str]

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass
class _Reader:
    """Reads files of one run and collects what went wrong."""

    root: Path
    problems: list[str] = field(default_factory=list)

    def text(self, path: Path, absent: str) -> str:
        """The file's text; where there is none, `absent` is noted unless it is empty."""
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
        if absent:
            self.problems.append(absent)
        return ""

    def table(self, path: Path, absent: str = "") -> dict[str, Any]:
        """A JSON object; empty where there is none."""
        text = self.text(path, absent)
        if not text:
            return {}
        try:
            value = json.loads(text)
        except ValueError as error:
            self._note(path, f"not JSON ({error})")
            return {}
        if not isinstance(value, dict):
            self._note(path, "not a JSON object")
            return {}
        return value

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """JSON lines; the last may have been cut by a kill, any other broken line is noted."""
        if not path.is_file():
            return []
        rows = []
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            row = _object(line)
            if row is not None:
                rows.append(row)
            elif line.strip() and number < len(lines):
                self._note(path, f"line {number} is not a JSON object and was left out")
        return rows

    def _note(self, path: Path, what: str) -> None:
        self.problems.append(f"{path.relative_to(self.root)}: {what}")


def read_run(folder: Path) -> RunRecord:
    """Everything the report shows. Raises `DataError` where `folder` is none, or holds no file of a run."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder of a run (it holds recipe.yaml and metrics.jsonl).")
    reader = _Reader(folder)
    present = [name for name in ("recipe.yaml", "summary.json", *_STAGE_FILES) if (folder / name).is_file()]
    stage_folders = [path for path in sorted(folder.iterdir()) if _is_stage(path)]
    if not present and not stage_folders:
        raise DataError(f"{folder}: not a run folder (no recipe.yaml, summary.json or metrics.jsonl in it).")
    summary = reader.table(folder / "summary.json", absent=_UNFINISHED)
    recipe_text = reader.text(folder / "recipe.yaml", absent="recipe.yaml is missing")
    recipe = _recipe(recipe_text)
    stages = [_stage(reader, path, recipe) for path in _in_order(stage_folders, summary, recipe)]
    if any((folder / name).is_file() for name in _STAGE_FILES):
        stages.insert(0, _single_stage(reader, folder, summary, recipe))
    evaluations = {path.stem: reader.rows(path) for path in sorted((folder / "evaluation").glob("*.jsonl"))}
    return RunRecord(
        folder=folder.resolve(), recipe_text=recipe_text, summary=summary, stages=stages, evaluations=evaluations,
        problems=tuple(reader.problems),
    )  # fmt: skip


def stage_entries(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`summary.json`'s list of stages; empty where there is none or it is not one."""
    entries = summary.get("stages")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _recipe(text: str) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}  # shown as text all the same; only the order of the stages is lost
    return value if isinstance(value, dict) else {}


def _is_stage(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in _STAGE_FILES)


def _in_order(folders: Sequence[Path], summary: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[Path]:
    """In the order the stages ran: as the summary lists them, else as the recipe does, else by name."""
    stages = recipe.get("stages")
    names = [entry.get("name") for entry in stage_entries(summary)]
    names += [name for name in (stages if isinstance(stages, dict) else {}) if name not in names]
    return sorted(folders, key=lambda path: (names.index(path.name) if path.name in names else len(names), path.name))


def _stage(reader: _Reader, folder: Path, recipe: Mapping[str, Any]) -> StageRecord:
    stages = recipe.get("stages")
    return StageRecord(
        name=folder.name,
        algorithm=_algorithm(stages.get(folder.name) if isinstance(stages, dict) else None),
        metrics=[row for row in reader.rows(folder / "metrics.jsonl") if isinstance(row.get("step"), int)],
        samples=reader.rows(folder / "samples.jsonl"),
        summary=reader.table(folder / "summary.json"),
    )


def _single_stage(reader: _Reader, folder: Path, summary: Mapping[str, Any], recipe: Mapping[str, Any]) -> StageRecord:
    """A run of one stage keeps its files in the run folder itself; its name is its algorithm's."""
    metrics = [row for row in reader.rows(folder / "metrics.jsonl") if isinstance(row.get("step"), int)]
    algorithm = _algorithm(recipe)
    logged = metrics[0].get("stage") if metrics else None
    return StageRecord(
        name=str(logged or algorithm or folder.name),
        algorithm=algorithm,
        metrics=metrics,
        samples=reader.rows(folder / "samples.jsonl"),
        summary=summary,
    )


def _algorithm(stage: Any) -> str | None:
    """`algorithm: NAME` or `algorithm: {type: NAME}` of a stage's recipe."""
    algorithm = stage.get("algorithm") if isinstance(stage, dict) else None
    name = algorithm.get("type") if isinstance(algorithm, dict) else algorithm
    return name if isinstance(name, str) else None
