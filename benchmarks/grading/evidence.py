"""Support by evidence: the figures of `plugins/rlhf-grounded`, on the halves its rules were not written with."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.grading.measures import Line, estimated
from rlhf.errors import DataError
from rlhf.evaluation.statistics import Estimate

_SCRIPT = Path(__file__).resolve().parents[2] / "plugins" / "rlhf-grounded" / "benchmarks" / "agreement.py"
_SPLIT = "rules written with the other half"


def grounded(data: Path) -> list[Line]:
    """Claims called supported or not, and right answers above made-up ones, beside word overlap and the like."""
    if not (data / "honest" / "fever_symmetric_v02.jsonl").is_file():
        raise DataError(f"--data: no such file {str(data / 'honest' / 'fever_symmetric_v02.jsonl')!r}")
    script = _script()
    lines: list[Line] = []
    for figure in script.figures(data):
        if "unseen half" not in figure.data or figure.measure not in (script.SUPPORTED, script.ABOVE):
            continue
        what = f"{figure.measure}: {figure.data.replace(', unseen half', '')}"
        measure = "pairs" if figure.measure == script.ABOVE else "accuracy"
        contenders: dict[str, Any] = {"grounded": figure.groups, **figure.rivals}
        for name, shares in contenders.items():
            estimate = _of_groups(shares, sum(map(len, figure.groups)))
            lines.append(Line(what=what, split=_SPLIT, contender=name, measure=measure, estimate=estimate))
    return lines


def _of_groups(shares: Sequence[Sequence[float]] | float, count: int) -> Estimate:
    """A share of rows, resampled by group; one that is known without looking has no width."""
    if isinstance(shares, float):
        return Estimate(value=shares, low=shares, high=shares, n=count)
    rows = [(float(row), str(number)) for number, group in enumerate(shares) for row in group]
    said = np.array([row for row, _ in rows])
    return estimated(np.ones(len(rows)), said, [name for _, name in rows], lambda _, right: float(right.mean()))


def _script() -> ModuleType:
    """The plugin's own script: it is no part of the package."""
    spec = importlib.util.spec_from_file_location("grounded_agreement", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module
