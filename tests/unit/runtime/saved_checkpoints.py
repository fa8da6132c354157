"""Checkpoints of a few bytes, as tests of saving, damage, keeping and uploads need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlhf.config import CheckpointConfig
from rlhf.runtime.checkpoints import Checkpoints, Origin
from rlhf.runtime.ranks import Ranks as OneRank

ORIGIN = Origin(run="tiny", stage="sft", recipe="0123456789abcdef")


def state(step: int) -> dict[str, Any]:
    """What a run says of itself."""
    return {
        "step": step,
        "version": 0,
        "tokens_seen": 7,
        "position": {"row": 3},
        "algorithm": {},
        "rewards": {},
        "before": {},
        "ahead": [],
        "ending": False,
    }


def writes(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "policy").mkdir()
        (folder / "policy" / "weights.bin").write_text(text)
        (folder / "policy" / "engine.json").write_text('{"engine": "torch", "dtype": "float32"}')

    return write


class Scene:
    """The checkpoints of a run, and what it was told."""

    def __init__(self, folder: Path, *, ranks: Any | None = None, origin: Origin = ORIGIN, **config: Any) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.checkpoints = Checkpoints(
            folder, CheckpointConfig(**config), origin, {"policy": 1}, ranks=ranks or OneRank(), note=self.notes.append
        )

    def save(
        self, step: int, write: Callable[[Path], None] | None = None, metrics: Mapping[str, float] | None = None
    ) -> Path:
        return self.checkpoints.save(step, write or writes(f"step {step}"), state(step), metrics or {})

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())
