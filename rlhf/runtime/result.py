"""What a run leaves behind, for Python users and notebooks."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Frame:
    """A page that a notebook shows inside a cell, its styles kept from the notebook's own."""

    page: str = field(repr=False)
    height: int

    def _repr_html_(self) -> str:
        # An empty sandbox: the page needs no script, and so gets none.
        source = html.escape(self.page, quote=True)
        return f'<iframe sandbox srcdoc="{source}" width="100%" height="{self.height}" style="border:0"></iframe>'


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, and the files in it as Python objects."""

    folder: Path
    summary: dict[str, Any] = field(repr=False)
    """The contents of `summary.json`."""
    model: Path
    """The last stage's model: a folder that `AutoModelForCausalLM.from_pretrained` loads."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every step of every stage, in order, as written to `metrics.jsonl`."""
        from rlhf.tracking.metrics_file import read_metrics

        folders = [self.folder / stage["name"] for stage in self.summary["stages"]]
        files = [folder / "metrics.jsonl" for folder in folders] + [self.folder / "metrics.jsonl"]
        return [row for file in files if file.is_file() for row in read_metrics(file)]

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.folder / "report.html"

    def plot(self, height: int = 560) -> Frame:
        """The main curves of each stage, to end a notebook's cell with; `height` in pixels."""
        from rlhf.evaluation.report import curves_page

        return Frame(page=curves_page(self.folder), height=height)

    def _repr_html_(self) -> str:
        """In a notebook: the report, as a frame of the cell."""
        return Frame(page=self.report.read_text(encoding="utf-8"), height=800)._repr_html_()
