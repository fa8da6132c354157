"""A data set in memory: rows of each kind, shuffled anew each epoch, with some kept from training."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal, TypeVar

from rlhf.data.readers import Record
from rlhf.errors import DataError
from rlhf.types import Demonstration, LabelledCompletion, Message, Prompt, Ranking, SteppedCompletion

Turns = Literal["all", "last", "each"]
T = TypeVar("T")


class Records:
    """The Dataset protocol over records. An epoch's order is a function of (seed, epoch) alone.

    None stands where a row was left out: it keeps its place, so that the others come in the order they would have
    with it, and mending a row moves no other.
    """

    def __init__(
        self,
        name: str,
        records: Sequence[Record | None],
        held: Sequence[Record] = (),
        turns: Turns = "all",
        bad_rows: int = 0,
    ) -> None:
        self.name = name
        self.bad_rows = bad_rows
        """Rows left out because something was wrong with them (`on_bad_row: skip`)."""
        self._turns = turns
        self._held = held
        self._prompts = _column(records, lambda r: r.prompt)
        demonstrations = _column(records, lambda r: r.demonstration)
        self._demonstrations = [
            row for whole in demonstrations for row in ([None] if whole is None else by_turns(whole, turns))
        ]
        self._rankings = _column(records, lambda r: r.ranking)
        self._labelled = _column(records, lambda r: r.labelled)
        self._stepwise = _column(records, lambda r: r.stepwise)
        self._texts = _column(records, lambda r: r.text)
        kinds: dict[str, Sequence[object]] = {
            "texts": self._texts,
            "prompts": self._prompts,
            "demonstrations": self._demonstrations,
            "rankings": self._rankings,
            "labelled": self._labelled,
            "stepwise": self._stepwise,
        }
        there = {kind: sum(row is not None for row in rows) for kind, rows in kinds.items()}
        self.sizes: Mapping[str, int] = {kind: count for kind, count in there.items() if count}

    def texts(self, seed: int, start: int = 0) -> Iterator[str]:
        return self._endless("texts", self._texts, seed, start)

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        return self._endless("prompts", self._prompts, seed, start)

    def demonstrations(self, seed: int, start: int = 0) -> Iterator[Demonstration]:
        return self._endless("demonstrations", self._demonstrations, seed, start)

    def rankings(self, seed: int, start: int = 0) -> Iterator[Ranking]:
        return self._endless("rankings", self._rankings, seed, start)

    def labelled(self, seed: int, start: int = 0) -> Iterator[LabelledCompletion]:
        return self._endless("labelled", self._labelled, seed, start)

    def stepwise(self, seed: int, start: int = 0) -> Iterator[SteppedCompletion]:
        return self._endless("stepwise", self._stepwise, seed, start)

    def held_out(self) -> Records | None:
        if not self._held:
            return None
        return Records(f"{self.name} (held out)", self._held, turns=self._turns)

    def corpus(self) -> Iterator[str]:
        """All text there is, once: what a tokenizer is trained on."""
        yield from _present(self._texts)
        for prompt in _present(self._prompts):
            yield from [message["content"] for message in prompt.messages] if prompt.messages else [prompt.text or ""]
        for row in _present(self._demonstrations):
            yield from _answers(row)
        for ranking in _present(self._rankings):
            yield from ranking.completions
        for judged in _present(self._labelled):
            yield judged.completion
        for stepped in _present(self._stepwise):
            yield from stepped.steps

    def _endless(self, kind: str, rows: Sequence[T | None], seed: int, start: int) -> Iterator[T]:
        # Not a generator itself: a kind that is missing is an error at the call, not at the first row.
        if kind not in self.sizes:
            raise DataError(f"{self.name} has no {kind}: it has {', '.join(self.sizes) or 'no rows'}.")
        return endless(rows, seed, start)


def endless(rows: Sequence[T | None], seed: int, start: int) -> Iterator[T]:
    """Row after row for ever, each epoch in an order of its own; `start` rows are skipped without being visited.

    Places that hold None are passed over, and count neither as rows nor in `start`.
    """
    epoch, offset = divmod(start, sum(row is not None for row in rows))
    while True:
        order = list(range(len(rows)))
        # A string seed is hashed with SHA-512: the same on every machine, and near seeds are not alike.
        random.Random(f"{seed}/{epoch}").shuffle(order)
        yield from islice(_present(rows[index] for index in order), offset, None)
        epoch, offset = epoch + 1, 0


def _column(records: Sequence[Record | None], part: Callable[[Record], T | None]) -> list[T | None]:
    """One kind of all records that have it, and None where a row was left out."""
    found = [(record, None if record is None else part(record)) for record in records]
    return [kind for record, kind in found if record is None or kind is not None]


def _present(rows: Iterable[T | None]) -> Iterator[T]:
    return (row for row in rows if row is not None)


def by_turns(row: Demonstration, turns: Turns) -> list[Demonstration]:
    """The demonstration as it is, with its last turn alone trained, or as one for each trained assistant turn."""
    if row.messages is None or turns == "all":
        return [row]
    ends = [n for n, m in enumerate(row.messages) if m["role"] == "assistant" and m.get("weight", 1.0) > 0]
    last = max((n for n, message in enumerate(row.messages) if message["role"] == "assistant"), default=None)
    if turns == "last":
        return [replace(row, messages=_only(row.messages, last))] if last is not None and last in ends else []
    return [replace(row, id=f"{row.id}#{end}", messages=_only(row.messages[: end + 1], end)) for end in ends]


def _only(messages: Sequence[Message], trained: int) -> tuple[Message, ...]:
    """The messages, every assistant turn but one without weight."""
    return tuple(
        {**message, "weight": 0.0} if message["role"] == "assistant" and number != trained else message
        for number, message in enumerate(messages)
    )


def _answers(row: Demonstration) -> list[str]:
    if row.messages is not None:
        return [message["content"] for message in row.messages if message["role"] == "assistant"]
    return [row.completion] if row.completion else []


def split_held_out(records: Sequence[Record | None], count: int, name: str) -> tuple[list[Record | None], list[Record]]:
    """(for training, held out): `count` rows chosen by the hash of what they ask, so the choice needs no seed.

    Rows of one prompt are never parted: whole groups are taken while they fit.
    """
    if count == 0:
        return list(records), []
    groups: dict[bytes, list[int]] = {}
    for number, record in enumerate(records):
        if record is not None:
            groups.setdefault(_digest(_question(record)), []).append(number)
    num_rows = sum(map(len, groups.values()))
    held: set[int] = set()
    for key in sorted(groups):
        if len(held) + len(groups[key]) <= count:
            held.update(groups[key])
    if len(held) < count or count >= num_rows:
        raise DataError(
            f"{name}: held_out is {count}, but only {len(held)} of {num_rows} rows can be kept without one prompt "
            f"in both parts, or no row would be left. Ask for fewer."
        )
    return (
        [record for number, record in enumerate(records) if number not in held],
        [record for number, record in enumerate(records) if record is not None and number in held],
    )


def _question(record: Record) -> str:
    """What tells one prompt from another."""
    if record.prompt is None:
        return record.text or ""
    turns = record.prompt.messages or ()
    return record.prompt.text or "\x00".join(f"{turn['role']}\x01{turn['content']}" for turn in turns)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
