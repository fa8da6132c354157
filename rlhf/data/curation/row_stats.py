"""Counts over rows that add up: lengths, languages, categories and verdicts of blocks become those of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rlhf.data.curation.row_view import RowView

_MOST_VALUES = 50
"""A column with more different values than this is no category."""
_LONGEST_VALUE = 60
SIDES = ("prompt", "answer", "rejected")
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


class RowStats:
    """Of rows that could be read. `answer` is the best or only one, `rejected` the worst of a ranking."""

    def __init__(self, length: Callable[[str], int] = len) -> None:
        self._length = length
        self.rows = 0
        self.lengths: dict[str, Counter[int]] = {side: Counter() for side in SIDES}
        self.languages: Counter[str] = Counter()
        self.turns: Counter[int] = Counter()
        self.longer: Counter[str] = Counter()
        """Of the two sides of a pair, which is longer."""
        self.labels: Counter[str] = Counter()
        self.categories: dict[str, Counter[str] | None] = {}
        """By column; None for one that turned out to have too many values."""

    def add(self, view: RowView, language: str | None = None) -> None:
        """Count one row."""
        self.rows += 1
        answers = view.answers
        asked = view.prompt_texts or ([view.record.text] if view.record.text else [])
        sizes = {"prompt": sum(map(self._length, asked))}
        if answers:
            sizes["answer"] = self._length(answers[0])
        if view.record.ranking is not None:
            sizes["rejected"] = self._length(answers[-1])
            more = sizes["answer"] - sizes["rejected"]
            self.longer["chosen" if more > 0 else "rejected" if more < 0 else "equal"] += 1
        for side, size in sizes.items():
            self.lengths[side][_rounded(size)] += 1
        if language is not None:
            self.languages[language] += 1
        self.turns[len(view.prompt_texts)] += 1
        if view.record.labelled is not None:
            self.labels["good" if view.record.labelled.label else "bad"] += 1
        self._count_categories(view.prompt.metadata if view.prompt else {})

    def _count_categories(self, columns: Mapping[str, Any]) -> None:
        for column, value in columns.items():
            counts = self.categories.setdefault(column, Counter())
            if counts is None:
                continue
            if not isinstance(value, str | bool) or len(str(value)) > _LONGEST_VALUE:
                self.categories[column] = None
                continue
            counts[str(value)] += 1
            if len(counts) > _MOST_VALUES:
                self.categories[column] = None

    def as_dict(self) -> dict[str, Any]:
        """All counts, for JSON; `merge` takes them."""
        return {
            "rows": self.rows,
            "lengths": {side: dict(counts) for side, counts in self.lengths.items()},
            "languages": dict(self.languages),
            "turns": dict(self.turns),
            "longer": dict(self.longer),
            "labels": dict(self.labels),
            "categories": {name: None if c is None else dict(c) for name, c in self.categories.items()},
        }

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Add the counts of other rows."""
        self.rows += counted["rows"]
        for side, counts in counted["lengths"].items():
            self.lengths[side].update({int(size): number for size, number in counts.items()})
        self.languages.update(counted["languages"])
        self.turns.update({int(turns): number for turns, number in counted["turns"].items()})
        self.longer.update(counted["longer"])
        self.labels.update(counted["labels"])
        for name, counts in counted["categories"].items():
            mine = self.categories.setdefault(name, Counter())
            if counts is None or mine is None:
                self.categories[name] = None
                continue
            mine.update(counts)
            if len(mine) > _MOST_VALUES:
                self.categories[name] = None

    def summary(self) -> dict[str, Any]:
        """Percentiles and shares, for a report."""
        lengths = {side: percentiles(counts) for side, counts in self.lengths.items() if counts}
        pairs = sum(self.longer.values())
        found: dict[str, Any] = {"rows": self.rows, "lengths": lengths}
        if self.languages:
            found["languages"] = dict(self.languages.most_common(10))
        if pairs:
            found["longer_side"] = {side: count / pairs for side, count in self.longer.most_common()}
        if self.labels:
            found["labels"] = dict(self.labels)
        categories = {name: dict(c.most_common(12)) for name, c in self.categories.items() if c and len(c) > 1}
        if categories:
            found["categories"] = categories
        return found

    def hints(self) -> list[str]:
        """What is out of balance, in words."""
        found = []
        pairs = self.longer["chosen"] + self.longer["rejected"]
        share = self.longer["chosen"] / pairs if pairs else 0.5
        if pairs >= 30 and not 1 / 3 <= share <= 2 / 3:
            side = "chosen" if share > 0.5 else "rejected"
            found.append(
                f"the {side} side is the longer one in {max(share, 1 - share):.0%} of pairs: a reward model can learn "
                "length instead of quality"
            )
        judged = sum(self.labels.values())
        if judged >= 30 and not 0.2 <= self.labels["good"] / judged <= 0.8:
            found.append(f"{self.labels['good']} of {judged} labels are good: far from balance")
        told = sum(self.languages.values()) - self.languages["und"]
        for language, count in self.languages.most_common()[1:]:
            if language != "und" and told >= 100 and count / told >= 0.02:
                found.append(f"{count / told:.0%} of rows are in another language ({language})")
        for name, counts in self.categories.items():
            if counts and len(counts) > 1 and sum(counts.values()) >= 100:
                (most, top), (least, low) = counts.most_common(1)[0], counts.most_common()[-1]
                if top >= 20 * low:
                    found.append(f"column {name!r}: {top} rows of {most!r} and {low} of {least!r}")
        return found


def percentiles(counts: Mapping[int, int]) -> dict[str, float]:
    """Mean and percentiles of values and how often each occurs."""
    total = sum(counts.values())
    found: dict[str, float] = {"mean": sum(size * count for size, count in counts.items()) / total}
    wanted = list(_SHARES)
    seen = 0
    for size in sorted(counts):
        seen += counts[size]
        while wanted and seen >= wanted[0] * total - 1e-9:
            share = wanted.pop(0)
            found["max" if share == 1 else f"p{share * 100:g}"] = size
    return found


def _rounded(size: int) -> int:
    """To three digits, so that there are never more than some thousand different lengths."""
    step: int = 10 ** max(0, len(str(size)) - 3)
    return size // step * step
