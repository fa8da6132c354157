"""One line of data as curation looks at it: what it says, what it teaches, and what tells it from another row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlhf.data.curation.wording import Grams, word_hashes
from rlhf.data.files import json_object
from rlhf.data.formats import Format, detect, find_format, read_record, rename
from rlhf.data.readers import Record
from rlhf.data.turns import Fault
from rlhf.errors import DataError
from rlhf.types import Prompt


@dataclass(frozen=True)
class RowView:
    """A row that could be read."""

    values: Mapping[str, Any]
    record: Record

    @property
    def prompt(self) -> Prompt | None:
        return self.record.prompt

    @cached_property
    def prompt_texts(self) -> list[str]:
        """What is asked, turn by turn."""
        prompt = self.record.prompt
        if prompt is None:
            return []
        return [turn["content"] for turn in prompt.messages] if prompt.messages else [prompt.text or ""]

    @property
    def question(self) -> str:
        """What the last turn of the user asks."""
        return self.record.prompt.last_user_text if self.record.prompt is not None else ""

    @cached_property
    def answers(self) -> Sequence[str]:
        """The completions the row has, best first; none of a row that only asks, or is a document."""
        record = self.record
        if record.ranking is not None:
            return record.ranking.completions
        if record.labelled is not None:
            return (record.labelled.completion,)
        if record.stepwise is not None:
            return ("\n".join(record.stepwise.steps),)
        shown = record.demonstration
        if shown is None or shown.text is not None:
            return ()
        return (shown.messages[-1]["content"] if shown.messages else shown.completion or "",)

    @cached_property
    def texts(self) -> list[str]:
        """All that is said in the row."""
        if self.record.text is not None:
            return [self.record.text]
        return [*self.prompt_texts, *self.answers]

    @cached_property
    def grams(self) -> Grams:
        """The n-grams of all its words."""
        return Grams(word_hashes(self.texts))

    @property
    def num_characters(self) -> int:
        return sum(map(len, self.texts))

    def key(self) -> tuple[int, int]:
        """128 bits, equal for rows that say the same to the letter: texts, roles, verdicts; no other columns."""
        record, prompt = self.record, self.record.prompt
        roles = [turn["role"] for turn in prompt.messages or ()] if prompt else []
        verdict = list(record.stepwise.labels) if record.stepwise else record.labelled and record.labelled.label
        said = json.dumps([self.texts, roles, verdict], ensure_ascii=True)
        return _halves(said)

    def prompt_key(self) -> int:
        """64 bits of what is asked."""
        return _halves(json.dumps(self.prompt_texts))[0]

    def judged_key(self) -> tuple[int, int]:
        """64 bits of what is compared or labelled whichever way, and the verdict; zeros where nothing is judged."""
        record = self.record
        if record.labelled is not None:
            return _halves(json.dumps(self.texts))[0], 1 + record.labelled.label
        if record.ranking is not None and len(self.answers) == 2:
            first, second = sorted(self.answers)
            return _halves(json.dumps([self.prompt_texts, first, second]))[0], 1 + (self.answers[0] == first)
        return 0, 0

    def answer_key(self) -> int:
        """64 bits of the best answer; 0 where there is none."""
        return _halves(self.answers[0])[0] if self.answers else 0


class LineReader:
    """Lines of JSON as rows of one format, which the first row tells where it is not given."""

    def __init__(self, name: str, row_format: str | None = None, columns: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.columns = dict(columns or {})
        self.format: Format | None = find_format(row_format) if row_format else None

    def with_format_of(self, number: int, raw: bytes) -> LineReader:
        """Itself, having looked at a line for its format. Raises `DataError` where there is none."""
        where = f"{self.name}, line {number}"
        try:
            values = self.values(raw)
        except Fault as fault:
            raise DataError(f"{where}: {fault}.") from None
        self.format = self.format or detect(values, where)
        return self

    def read(self, number: int, raw: bytes) -> RowView:
        """The row of a line. Raises `Fault` with what is wrong with it."""
        values = self.values(raw)
        assert self.format is not None
        return RowView(values, read_record(self.format, f"{self.name}:{number}", values))

    def values(self, raw: bytes) -> dict[str, Any]:
        """The columns of a line, under our names. Raises `Fault`."""
        values = parse_line(raw)
        return rename(values, self.columns) if self.columns else values


def parse_line(raw: bytes) -> dict[str, Any]:
    """A line's object. Raises `Fault`."""
    value = json_object(raw)
    if isinstance(value, Fault):
        raise value
    return value


def _halves(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
