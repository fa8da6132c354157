"""`length_constraints:*`: numbers of words, sentences and paragraphs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from rlhf_ifeval.instruction import Count, Instruction, Phrase, Relation, compare
from rlhf_ifeval.sentences import num_sentences
from rlhf_ifeval.words import num_words

DIVIDER = "***"
QUOTES = "'\""
WORD_ENDS = ".,?!'\""
"""What may follow the first word of a paragraph directly."""


class NumberWords(Instruction):
    """So many words."""

    id: ClassVar[str] = "length_constraints:number_words"
    num_words: Count
    relation: Relation

    def followed(self, text: str) -> bool:
        return compare(num_words(text), self.relation, self.num_words)


class NumberSentences(Instruction):
    """So many sentences."""

    id: ClassVar[str] = "length_constraints:number_sentences"
    num_sentences: Count
    relation: Relation

    def followed(self, text: str) -> bool:
        return compare(num_sentences(text), self.relation, self.num_sentences)


class NumberParagraphs(Instruction):
    """Exactly so many paragraphs, parted by the markdown divider `***`; one before the first or after the last is idle,
    two dividers with nothing between them are a mistake.
    """

    id: ClassVar[str] = "length_constraints:number_paragraphs"
    num_paragraphs: Count

    def followed(self, text: str) -> bool:
        paragraphs = [paragraph.strip() for paragraph in text.split(DIVIDER)]
        return all(paragraphs[1:-1]) and sum(map(bool, paragraphs)) == self.num_paragraphs


class NthParagraphFirstWord(Instruction):
    """Exactly so many paragraphs, parted by blank lines, of which the nth (from 1) begins with this word."""

    id: ClassVar[str] = "length_constraints:nth_paragraph_first_word"
    num_paragraphs: Count
    nth_paragraph: Annotated[int, Field(ge=1)]
    first_word: Phrase

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.nth_paragraph > self.num_paragraphs:
            raise ValueError(f"nth_paragraph={self.nth_paragraph} is beyond num_paragraphs={self.num_paragraphs}")
        return self

    def followed(self, text: str) -> bool:
        paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
        if len(paragraphs) != self.num_paragraphs:
            return False
        first = self.first_word.lower()
        word = paragraphs[self.nth_paragraph - 1].split(maxsplit=1)[0].lstrip(QUOTES).lower()
        return word == first or word.startswith(tuple(first + end for end in WORD_ENDS))
