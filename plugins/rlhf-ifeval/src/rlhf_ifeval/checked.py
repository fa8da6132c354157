"""One rollout checked against the instructions of its row: what the reward and the grader are both made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf import PartConfig
from rlhf.types import Rollout
from rlhf_ifeval.instruction import Instruction
from rlhf_ifeval.kinds import read_instructions
from rlhf_ifeval.verdicts import Verdict, judge

COLUMNS = ("instruction_id_list", "kwargs")


class CheckConfig(PartConfig):
    """Options of `ifeval` and of `ifeval_helpful`."""

    verdict: Verdict = "strict"
    """`loose` also takes the response without stars, without its first line and without its last; for reports, since a
    policy rewarded so learns to add them.
    """
    credit: Literal["share", "all"] = "share"
    """What a response is worth: the `share` of the instructions it follows, or 1 for `all` of them and 0 for fewer."""


@dataclass(frozen=True)
class Checked:
    """At least one instruction, and of each whether the response follows it."""

    instructions: Sequence[Instruction]
    followed: Sequence[bool]

    @property
    def share(self) -> float:
        """Of the instructions, those that were followed; 0 to 1."""
        return sum(self.followed) / len(self.followed)

    @property
    def all(self) -> float:
        """1 where every instruction was followed, else 0."""
        return float(all(self.followed))

    def worth(self, credit: Literal["share", "all"]) -> float:
        return self.share if credit == "share" else self.all

    @property
    def missed(self) -> list[Instruction]:
        """Those that were not followed."""
        return [one for one, followed in zip(self.instructions, self.followed, strict=True) if not followed]


def check(rollout: Rollout, verdict: Verdict) -> Checked | None:
    """None for a row without instructions. `DataError` for one whose columns cannot be read."""
    ids, kwargs = (rollout.prompt.metadata.get(column) for column in COLUMNS)
    if ids is None or ids == []:
        return None
    instructions = read_instructions(ids, kwargs)
    return Checked(instructions, judge(instructions, rollout.completion.text, verdict))
