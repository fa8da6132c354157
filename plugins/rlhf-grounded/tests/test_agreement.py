"""Agreement with labels on the half of the data that the rules were not written with, a little below the README."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "agreement.py"


@pytest.fixture
def figures(
    honest_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[str, str], float]:
    spec = importlib.util.spec_from_file_location("grounded_agreement", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    module.main(honest_data.parent)
    found = {}
    for line in capsys.readouterr().out.splitlines()[2:]:
        data, measure, _, figure, baselines = (cell.strip() for cell in line.strip("|").split("|"))
        found[data, measure] = float(figure.split()[0])
        overlap = re.search(r"word overlap (\S+)", baselines)
        if overlap:
            found[data, "word overlap"] = float(overlap[1])
    return found


def test_figures_of_the_unseen_half(figures: dict[tuple[str, str], float]) -> None:
    fever = "FEVER symmetric, unseen half"
    assert figures[fever, "supported or not"] > 0.70
    assert figures[fever, "supported or not"] > figures[fever, "word overlap"] + 0.05
    assert figures[fever, "precision of `supported`"] >= 0.85
    assert figures[fever, "precision of `contradicted`"] >= 0.85
    for turn in ("one", "multi"):
        assert figures[f"halueval_qa_{turn}_turn, unseen half", "supported or not"] >= 0.84
