"""The `mixture` data set: rows of several data sets in fixed shares, as in continued pre-training with replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import Field

from rlhf.config import Part, PartConfig
from rlhf.errors import DataError
from rlhf.protocols import Dataset
from rlhf.types import Demonstration, LabelledCompletion, Prompt, Ranking, SteppedCompletion

T = TypeVar("T")
KINDS = ("texts", "prompts", "demonstrations", "rankings", "labelled", "stepwise")


class Source(Part):
    """A data set by its type, with its options, and its share of the rows."""

    share: float = Field(gt=0, allow_inf_nan=False)


class MixtureConfig(PartConfig):
    """Several data sets, interleaved."""

    sources: tuple[Source, ...] = Field(min_length=1)
    """Each a data set with its `share`; shares are relative, 9 and 1 mean nine rows of ten."""


class MixtureDataset:
    """Interleaves its sources so that after any number of rows each has had its share, to within one row.

    Each source runs through its own epochs. An epoch of the mixture is as long as all sources together.
    """

    def __init__(self, sources: Sequence[Dataset], shares: Sequence[float]) -> None:
        self._sources = tuple(sources)
        self._shares = tuple(share / sum(shares) for share in shares)
        common = [kind for kind in KINDS if all(kind in source.sizes for source in sources)]
        self.sizes: Mapping[str, int] = {kind: sum(source.sizes[kind] for source in sources) for kind in common}
        self.bad_rows: int = sum(getattr(source, "bad_rows", 0) for source in sources)

    def texts(self, seed: int, start: int = 0) -> Iterator[str]:
        return self._interleaved("texts", lambda source, skip: source.texts(seed, skip), start)

    def prompts(self, seed: int, start: int = 0) -> Iterator[Prompt]:
        return self._interleaved("prompts", lambda source, skip: source.prompts(seed, skip), start)

    def demonstrations(self, seed: int, start: int = 0) -> Iterator[Demonstration]:
        return self._interleaved("demonstrations", lambda source, skip: source.demonstrations(seed, skip), start)

    def rankings(self, seed: int, start: int = 0) -> Iterator[Ranking]:
        return self._interleaved("rankings", lambda source, skip: source.rankings(seed, skip), start)

    def labelled(self, seed: int, start: int = 0) -> Iterator[LabelledCompletion]:
        return self._interleaved("labelled", lambda source, skip: source.labelled(seed, skip), start)

    def stepwise(self, seed: int, start: int = 0) -> Iterator[SteppedCompletion]:
        return self._interleaved("stepwise", lambda source, skip: source.stepwise(seed, skip), start)

    def held_out(self) -> MixtureDataset | None:
        """The held-out rows of those sources that keep some, in the same proportions."""
        kept: list[tuple[Dataset, float]] = []
        for source, share in zip(self._sources, self._shares, strict=True):
            held_out = source.held_out()
            if held_out is not None:  # a source may keep none, as replayed data usually does
                kept.append((held_out, share))
        if not kept:
            return None
        return MixtureDataset([source for source, _ in kept], [share for _, share in kept])

    def _interleaved(self, kind: str, rows: Callable[[Dataset, int], Iterator[T]], start: int) -> Iterator[T]:
        if kind not in self.sizes:
            known = ", ".join(self.sizes) or "none"
            raise DataError(f"not every source of the mixture has {kind}; kinds they have in common: {known}.")
        return self._take(rows, start)

    def _take(self, rows: Callable[[Dataset, int], Iterator[T]], start: int) -> Iterator[T]:
        counts = [0] * len(self._sources)
        turns = self._turns(counts)
        for _ in range(start):
            next(turns)
        streams = [rows(source, count) for source, count in zip(self._sources, counts, strict=True)]
        for chosen in turns:
            yield _named(next(streams[chosen]), chosen)

    def _turns(self, counts: list[int]) -> Iterator[int]:
        """Whose row comes next: the source that is furthest behind its share. `counts` is kept up to date."""
        while True:
            total = sum(counts) + 1
            behind = [share * total - count for share, count in zip(self._shares, counts, strict=True)]
            chosen = max(range(len(counts)), key=behind.__getitem__)
            counts[chosen] += 1
            yield chosen


def _named(row: T, source: int) -> T:
    """The row under an id that none of another source has: two folders may hold files of one name, and samples of
    prompts with one id are compared with each other.
    """
    match row:
        case Prompt() | Demonstration():
            return replace(row, id=f"{source}/{row.id}")
        case Ranking() | LabelledCompletion() | SteppedCompletion():
            return replace(row, prompt=_named(row.prompt, source))
        case _:
            return row


Build = Callable[[Part], Dataset]


def mix(config: MixtureConfig, build: Build) -> MixtureDataset:
    """The mixture a recipe asks for; `build` makes a data set of a part."""
    sources = [build(Part.model_validate({"type": source.type, **source.options})) for source in config.sources]
    return MixtureDataset(sources, [source.share for source in config.sources])
