"""The seams. A Ray group of actors satisfies the same protocol as the engine in this process.

Text and token ids cross `RolloutEngine`, `RewardFn` and `Grader`; whole global batches cross `TrainEngine`. Whoever
spreads a batch over ranks hands each its rows together with the global counts, so an algorithm never sees world size.
"""

from __future__ import annotations

from rlhf.protocols.data import Dataset
from rlhf.protocols.engines import Loss, RolloutEngine, TrainEngine
from rlhf.protocols.judges import Grader, HeadScores, JudgingRole, Parts, RewardFn, TrainableGrader
from rlhf.protocols.run import Algorithm, Run, Tracker
from rlhf.protocols.writing import Piece, Writer, WritingEngine

__all__ = [
    "Algorithm",
    "Dataset",
    "Grader",
    "HeadScores",
    "JudgingRole",
    "Loss",
    "Parts",
    "Piece",
    "RewardFn",
    "RolloutEngine",
    "Run",
    "Tracker",
    "TrainEngine",
    "TrainableGrader",
    "Writer",
    "WritingEngine",
]
