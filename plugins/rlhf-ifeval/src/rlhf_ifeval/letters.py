"""`change_case:*` and `punctuation:*`: which letters and marks a response may be written with."""

from __future__ import annotations

from typing import ClassVar

from rlhf_ifeval.instruction import Count, Instruction, Relation, compare
from rlhf_ifeval.language import detected
from rlhf_ifeval.words import num_capital_words

COMMAS = ",，、،"
"""Of Latin, Chinese, Japanese and Arabic texts: another script's comma is still one."""


class EnglishCapital(Instruction):
    """English, and no small letter."""

    id: ClassVar[str] = "change_case:english_capital"

    def followed(self, text: str) -> bool:
        return text.isupper() and detected(text.lower()) == "en"  # langdetect looks away from words in capitals


class EnglishLowercase(Instruction):
    """English, and no capital letter."""

    id: ClassVar[str] = "change_case:english_lowercase"

    def followed(self, text: str) -> bool:
        return text.islower() and detected(text) == "en"


class CapitalWordFrequency(Instruction):
    """So many words in capitals."""

    id: ClassVar[str] = "change_case:capital_word_frequency"
    capital_frequency: Count
    capital_relation: Relation

    def followed(self, text: str) -> bool:
        return compare(num_capital_words(text), self.capital_relation, self.capital_frequency)


class NoComma(Instruction):
    """No comma of any script."""

    id: ClassVar[str] = "punctuation:no_comma"

    def followed(self, text: str) -> bool:
        return not any(comma in text for comma in COMMAS)
