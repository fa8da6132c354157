"""Choices between two answers, written down as preference data: who wrote which is not known to who chooses."""

from __future__ import annotations

import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rlhf.errors import ConfigError
from rlhf.types import Message

Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie", "both_bad"]
SIDES: tuple[Side, Side] = ("left", "right")

PREFERENCES = "preferences.jsonl"
"""Rows of prompt, chosen and rejected, as training reads them."""
JUDGEMENTS = "judgements.jsonl"
"""Every choice with all that was known: ties and pairs of bad answers too, which are no preferences."""
_MOST_REMEMBERED = 1000


@dataclass
class Comparison:
    """Two answers to one conversation. `models` says, by side, who wrote them."""

    messages: Sequence[Message]
    models: Mapping[Side, str]
    sampling: Mapping[str, Any]
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    answers: dict[Side, str] = field(default_factory=dict)
    """Whole ones only."""
    finish_reasons: dict[Side, str] = field(default_factory=dict)
    scores: dict[Side, dict[str, Any]] | None = None
    scores_seen: bool = False
    """Before the choice."""
    choice: Choice | None = None


class Comparisons:
    """The latest comparisons, until they are chosen from."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Comparison] = OrderedDict()

    def begin(self, messages: Sequence[Message], models: Sequence[str], sampling: Mapping[str, Any]) -> Comparison:
        """The two models, or one of them twice, on sides drawn at random."""
        ordered = list(models) if secrets.randbits(1) else list(reversed(models))
        comparison = Comparison(messages, dict(zip(SIDES, ordered, strict=True)), sampling)
        self._known[comparison.id] = comparison
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return comparison

    def get(self, identity: str) -> Comparison | None:
        return self._known.get(identity)


class PreferenceFiles:
    """Two files in a folder, one line added at a time; what is there stays."""

    def __init__(self, folder: Path) -> None:
        """Raises `ConfigError` where the folder cannot be written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (PREFERENCES, JUDGEMENTS):
                with (folder / name).open("ab"):
                    pass
        except OSError as error:
            raise ConfigError(f"--preferences {folder}: cannot be written to: {error.strerror}") from None
        self.folder = folder

    def record(self, comparison: Comparison, choice: Choice) -> None:
        """What was chosen; on the disk when this returns."""
        _append(self.folder / JUDGEMENTS, _judgement(comparison, choice))
        if choice in SIDES and all(comparison.answers.values()):  # training refuses a pair with an empty side
            _append(self.folder / PREFERENCES, _preference(comparison, choice))


def _preference(comparison: Comparison, chosen: Side) -> dict[str, Any]:
    rejected = SIDES[1 - SIDES.index(chosen)]
    answers = {
        column: [{"role": "assistant", "content": comparison.answers[side]}]
        for column, side in (("chosen", chosen), ("rejected", rejected))
    }
    return {
        "prompt": [dict(message) for message in comparison.messages],
        **answers,
        "comparison": comparison.id,
        "chosen_side": chosen,
        "chosen_model": comparison.models[chosen],
        "rejected_model": comparison.models[rejected],
    }


def _judgement(comparison: Comparison, choice: Choice) -> dict[str, Any]:
    sides: dict[str, Any] = {
        side: {
            "model": comparison.models[side],
            "answer": comparison.answers[side],
            "finish_reason": comparison.finish_reasons[side],
            "scores": (comparison.scores or {}).get(side),
        }
        for side in SIDES
    }
    return {
        "comparison": comparison.id,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "choice": choice,
        "prompt": [dict(message) for message in comparison.messages],
        **sides,
        "sampling": dict(comparison.sampling),
        "scores_seen": comparison.scores_seen,
    }


def _append(file: Path, row: Mapping[str, Any]) -> None:
    """One line, whole: a kill in between leaves no half of it before the next."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # A client may send half a character, which training takes for a damaged row.
    line = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode() + b"\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{file}: the disk took part of a line")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
