"""What a run leaves behind, for Python users and notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, and the files in it as Python objects."""

    folder: Path
    summary: dict[str, Any]
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

    def _repr_html_(self) -> str:
        """In a notebook: the report, as a frame of the cell."""
        import html

        page = html.escape(self.report.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="800" style="border:0"></iframe>'
