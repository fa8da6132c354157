"""What a checkpoint keeps beside the models: where the run stood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.runtime.checkpoints.manifest import DamagedCheckpoint

STATE = "run.json"
_KINDS: dict[str, type] = {
    "step": int,
    "version": int,
    "tokens_seen": int,
    "position": dict,
    "algorithm": dict,
    "rewards": dict,
    "before": dict,
    "ahead": list,
    "ending": bool,
}


def write_state(checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Write it into the folder of a checkpoint in the making."""
    (checkpoint / STATE).write_text(json.dumps(dict(state)), encoding="utf-8")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Step, positions and algorithm state of a checkpoint. Raises `DamagedCheckpoint` where one is not there."""
    try:
        state = json.loads((checkpoint / STATE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{STATE} cannot be read: {error}") from None
    if not isinstance(state, dict):
        raise DamagedCheckpoint(f"{STATE}: expected an object, found {type(state).__name__}")
    for key, kind in _KINDS.items():
        if type(state.get(key)) is not kind:
            there = type(state[key]).__name__ if key in state else "nothing"
            raise DamagedCheckpoint(f"{STATE}: expected `{key}` as {kind.__name__}, found {there}")
    return state
