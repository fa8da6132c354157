"""Words of a text, as the reference checker counts them."""

from __future__ import annotations

import re

WORD = re.compile(r"\w+")
# What a tokenizer of the Penn Treebank's kind parts words at; a hyphen, a slash or a period inside of a word is none.
APART = re.compile(r"[\s,;:?!@#$%&*()\[\]{}<>\"“”„«»`‘’…]+|-{2,}|\.{2,}")
CONTRACTION = re.compile(r"(.+?)(n't|'(?:s|m|d|ll|re|ve))", re.IGNORECASE)


def num_words(text: str) -> int:
    """Runs of letters, digits and underscores: "don't" is two."""
    return sum(1 for _ in WORD.finditer(text))


def num_capital_words(text: str) -> int:
    """Words without a lower-case letter: "A", "NATO", "MP3", "STATE-OF-THE-ART"; "I'M" is two, "I'm" is one."""
    return sum(part.isupper() for word in APART.split(text) for part in _parts(word))


def _parts(word: str) -> tuple[str, ...]:
    contraction = CONTRACTION.fullmatch(word)
    return contraction.groups() if contraction else (word,)
