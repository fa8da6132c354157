"""`keywords:*`: words and letters that must appear, must not, or so many times. Case never matters.

A keyword is text and no pattern: `C++` and `why?` mean themselves.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from rlhf_ifeval.instruction import Count, Instruction, Phrase, Relation, compare

Phrases = Annotated[tuple[Phrase, ...], Field(min_length=1)]


class KeywordExistence(Instruction):
    """Every keyword appears, be it inside of a longer word."""

    id: ClassVar[str] = "keywords:existence"
    keywords: Phrases

    def followed(self, text: str) -> bool:
        return all(_literal(word).search(text) for word in self.keywords)


class KeywordFrequency(Instruction):
    """The keyword appears so many times, inside of longer words too."""

    id: ClassVar[str] = "keywords:frequency"
    keyword: Phrase
    frequency: Count
    relation: Relation

    def followed(self, text: str) -> bool:
        return compare(sum(1 for _ in _literal(self.keyword).finditer(text)), self.relation, self.frequency)


class ForbiddenWords(Instruction):
    """None of the words appears as a word of its own."""

    id: ClassVar[str] = "keywords:forbidden_words"
    forbidden_words: Phrases

    def followed(self, text: str) -> bool:
        return not any(_literal(word, alone=True).search(text) for word in self.forbidden_words)


class LetterFrequency(Instruction):
    """The letter, or any other single character, appears so many times."""

    id: ClassVar[str] = "keywords:letter_frequency"
    letter: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1)]
    let_frequency: Count
    let_relation: Relation

    def followed(self, text: str) -> bool:
        return compare(text.lower().count(self.letter.lower()), self.let_relation, self.let_frequency)


def _literal(phrase: str, alone: bool = False) -> re.Pattern[str]:
    """The phrase itself; `alone`: with no letter, digit or underscore right before or after it."""
    pattern = re.escape(phrase)
    return re.compile(rf"(?<!\w){pattern}(?!\w)" if alone else pattern, re.IGNORECASE)
