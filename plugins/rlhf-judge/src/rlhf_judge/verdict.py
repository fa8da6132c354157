"""The judge's verdict, read from one place of its answer: its last line, or a JSON object that is all of it.

Nothing else is looked at: a judge that quotes "Score: 10" from the text it judges has not given a 10.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlhf_judge.faults import Unreadable, excerpt

VerdictForm = Literal["line", "json"]
Scale = tuple[float, float]

_DRESS = " \t*_`\"'[]()"  # what models put around a verdict; a minus or a leading point is none of it
_THOUGHT = "</think>"
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_NUMBER = re.compile(r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)(?:\s*/\s*([0-9]{1,9}))?")


def read_score(text: str, form: VerdictForm, scale: Scale) -> float:
    """The score, within the scale.

    Raises:
        Unreadable: there is no verdict where it belongs, or it is out of the scale.
    """
    value = _in_json(text, "score") if form == "json" else _number(_last_line(text, "Score"), text, scale)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unreadable(f"its score is no number: {excerpt(text, end=True)}")
    low, high = scale
    if not low <= value <= high:
        raise Unreadable(f"its score {value:g} is out of the scale {low:g} to {high:g}: {excerpt(text, end=True)}")
    return float(value)


def read_choice(text: str, form: VerdictForm, choices: Sequence[str]) -> str:
    """Which of the choices is better.

    Raises:
        Unreadable: there is no verdict where it belongs, or it is none of the choices.
    """
    value = _in_json(text, "better") if form == "json" else _last_line(text, "Better")
    found = str(value).strip("." + _DRESS).lower()
    if found not in choices:
        raise Unreadable(f"its choice is none of {', '.join(choices)}: {excerpt(text, end=True)}")
    return found


def rationale(text: str, form: VerdictForm) -> str:
    """What the judge said before its verdict."""
    spoken = text.rpartition(_THOUGHT)[2].strip()
    if form == "json":
        return str(_in_json(text, "reason", default=""))
    return spoken.rpartition("\n")[0].strip()


def verdict_request(form: VerdictForm, key: Literal["Score", "Better"], allowed: str) -> str:
    """How the judge is told to answer; `allowed` says what may stand for its verdict."""
    if form == "json":
        return (
            f'Answer with one JSON object and nothing else: {{"reason": "two to four sentences", '
            f'"{key.lower()}": VERDICT}}, where VERDICT is {allowed}.'
        )
    return (
        f"First give your reasons in two to four sentences. Then end with one line, and write nothing after it:\n"
        f"{key}: VERDICT\nwhere VERDICT is {allowed}."
    )


def verdict_schema(key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a verdict, for endpoints that hold their model to one. The reason comes first, so that the
    verdict follows from it.
    """
    return {
        "type": "object",
        "properties": {"reason": {"type": "string"}, key: dict(value)},
        "required": ["reason", key],
        "additionalProperties": False,
    }


def _last_line(text: str, key: str) -> str:
    lines = text.rpartition(_THOUGHT)[2].strip().splitlines()
    last = lines[-1] if lines else ""
    found = re.fullmatch(rf"[\s*_`#>]*{key}[\s*_`]*[:=](.*)", last, re.IGNORECASE)
    if not found:
        raise Unreadable(f"its answer does not end with a line `{key}: ...`: {excerpt(text, end=True)}")
    return found[1]


def _number(value: str, text: str, scale: Scale) -> float:
    found = _NUMBER.fullmatch(value.strip(_DRESS).rstrip("." + _DRESS))
    if not found:
        raise Unreadable(f"its score is no number: {excerpt(text, end=True)}")
    if found[2] is not None and float(found[2]) != scale[1]:
        raise Unreadable(f"its score is out of {found[2]}, the scale to {scale[1]:g}: {excerpt(text, end=True)}")
    return float(found[1])


def _in_json(text: str, key: str, default: Any = None) -> Any:
    spoken = text.rpartition(_THOUGHT)[2].strip()
    inner = _FENCE.match(spoken)
    try:
        found = json.loads(inner[1] if inner else spoken)
    except (ValueError, RecursionError):
        raise Unreadable(f"its answer is not a JSON object: {excerpt(text)}") from None
    if not isinstance(found, dict) or (key not in found and default is None):
        raise Unreadable(f"its JSON has no {key!r}: {excerpt(text)}")
    return found.get(key, default)
