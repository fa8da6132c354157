"""What every kind of instruction is: fields read from the data's `kwargs`, and a verdict on a text."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from rlhf import PartConfig

Count = Annotated[int, Field(ge=0)]
Relation = Literal["less than", "at least"]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text to look for; white space around it does not count."""

LONGEST_SHOWN = 60
"""Characters of a value in a description; a prompt to repeat may be a page."""


class Instruction(PartConfig):
    """One instruction a response can be checked against. A kind adds fields, named as in the data, and `followed`."""

    id: ClassVar[str]
    """As in `instruction_id_list`: group and kind."""

    @abstractmethod
    def followed(self, text: str) -> bool:
        """Whether `text`, which is not blank, does what was asked. Takes time linear in its length."""

    def __str__(self) -> str:
        """The id and what was asked: `keywords:frequency (keyword='war', frequency=8, relation='at least')`."""
        fields = [f"{name}={_shown(value)}" for name, value in self.model_dump().items()]
        return f"{self.id} ({', '.join(fields)})" if fields else self.id


def compare(found: int, relation: Relation, wanted: int) -> bool:
    """Whether so many were found as asked for; the paper knows these two relations."""
    return found < wanted if relation == "less than" else found >= wanted


def _shown(value: object) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
