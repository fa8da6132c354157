"""Fill a template of this folder. Everything put into a page is escaped, unless it is a drawing of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rlhf.evaluation.statistics import Estimate

_FOLDER = Path(__file__).parent


def render(template: str, **context: Any) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    filters: dict[str, Callable[..., str]] = {
        "figure": figure_text,
        "duration": duration_text,
        "score": score_text,
        "interval": interval_text,
        "measured": measured_text,
        "measured_interval": measured_interval_text,
        "signed": signed_text,
        "grade_class": grade_class,
    }
    environment.filters.update(filters)
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **context)


def figure_text(value: Any) -> str:
    """A number in three significant digits; a pair as an interval; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(figure_text(item) for item in value) + "]"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
    return text.replace("-", "−")


def duration_text(seconds: Any) -> str:
    """`48 s`, `3 min 20 s`, `1 h 2 min`; a dash where it is not known."""
    if not isinstance(seconds, int | float):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def score_text(value: Any) -> str:
    """A score of 0..1 with two digits; a dash where there is none."""
    return f"{value:.2f}" if isinstance(value, int | float) else "–"


def signed_text(value: float) -> str:
    """A difference with its sign, a true minus."""
    return f"{value:+.2f}".replace("-", "−")


def interval_text(estimate: Estimate, signed: bool = False) -> str:
    """`0.35 to 0.47`; empty where there is no interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    write = signed_text if signed else score_text
    return f"{write(estimate.low)} to {write(estimate.high)}"


def measured_text(value: float) -> str:
    """Three significant digits, zeros among them: what stands in a column under others."""
    if value == 0 or abs(value) < 1e-3 or abs(value) >= 1000:
        return figure_text(value)
    return f"{value:#.3g}".rstrip(".").replace("-", "−")


def measured_interval_text(estimate: Estimate) -> str:
    """`0.873 to 0.943`, of a figure on any scale; empty where there is no interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"{measured_text(estimate.low)} to {measured_text(estimate.high)}"


def grade_class(score: Any) -> str:
    """The tint of a score: good, middling, bad, or none."""
    if not isinstance(score, int | float):
        return "failed"
    return "good" if score >= 0.75 else "bad" if score < 0.25 else "middling"
