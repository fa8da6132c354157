"""Which head of a reward model a ranking trains: the one its row names in the algorithm's `head_column`."""

from __future__ import annotations

from itertools import islice

from rlhf.errors import DataError, nearest
from rlhf.protocols import Algorithm, Dataset
from rlhf.types import Ranking


def head_of(ranking: Ranking, algorithm: Algorithm) -> int | None:
    """The head's number; None for a method whose reward model has one. Raises `DataError`."""
    if not algorithm.heads:
        return None
    name = ranking.prompt.metadata.get(algorithm.head_column)
    if name not in algorithm.heads:
        raise DataError(
            f"{ranking.prompt.id}: its `{algorithm.head_column}` is {name!r}, and the reward model's heads are "
            f"{', '.join(algorithm.heads)}.{nearest(str(name), algorithm.heads)} Set heads and head_column to fit."
        )
    return algorithm.heads.index(name)


def require_known_heads(stage: str, dataset: Dataset, algorithm: Algorithm) -> None:
    """Look at every row before anything is trained; each head needs some, too."""
    if not algorithm.heads:
        return
    rankings = islice(dataset.rankings(0), dataset.sizes.get("rankings", 0))
    trained = {head_of(ranking, algorithm) for ranking in rankings}
    idle = [name for number, name in enumerate(algorithm.heads) if number not in trained]
    if idle:
        raise DataError(f"stage {stage!r}: no ranking trains the head {idle[0]!r}; leave it out of heads, or add rows")
