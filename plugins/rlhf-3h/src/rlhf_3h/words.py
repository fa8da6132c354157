"""Text as tokens: contractions written out, words of one meaning under one name, n-grams, sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_TOKEN = re.compile(r"[a-z']+|\d+|[^\sa-z\d]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
# In order: "won't" must be seen before "n't", and "will not" after both.
_WRITTEN_OUT = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\bcan't\b|\bcan not\b", "cannot"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"\bi'm\b", "i am"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"'ll\b", " will"),
        (r"\b(it|that)'s\b", r"\1 is"),
        (r"'d\b", " would"),
        (r"\b(?:am |are |is )?(?:not able|unable) to\b", "cannot"),
        (r"\bwill not\b|\bmust decline\b", "cannot"),
    )
)
_CLASSES = {
    "_sorry": "sorry apologize apologise apologies regret",
    "_help": "help assist assistance aid support fulfill fulfil comply",
    "_give": "provide give offer share answer respond engage discuss generate create write suggest recommend promote "
    "condone encourage endorse facilitate",
    "_bad": "illegal unethical harmful dangerous inappropriate offensive immoral unlawful unsafe violent "
    "discriminatory disrespectful hateful hurtful unacceptable derogatory criminal harm violence",
    "_ai": "ai assistant model chatbot program",
    "_ask": "request question query prompt",
    "_good": "respectful ethical safe legal responsible inclusive appropriate helpful positive healthy",
}
_CLASS_OF = {word: name for name, words in _CLASSES.items() for word in words.split()}
_FUNCTION_WORDS = frozenset(
    "a an the of in on to for is are was were be been and or it its that this with as at by from you your they their "
    "he she his her i we my me do does did has have had can could would will not no how what why where when who "
    "which there than then so but if about into".split()
)
_ENDINGS = ("ing", "edly", "ed", "ies", "es", "s", "ly")


def tokens(text: str) -> list[str]:
    """Words, numbers and signs in lower case, with contractions written out."""
    text = text.lower().replace("\u2019", "'")
    for pattern, written in _WRITTEN_OUT:
        text = pattern.sub(written, text)
    return _TOKEN.findall(text)


def classed(words: Iterable[str]) -> list[str]:
    """Words of refusals by what they mean: `help` and `assist` are one, so that a new model's manner is known."""
    return [_CLASS_OF.get(word, word) for word in words]


def hidden(words: Iterable[str], question: Iterable[str]) -> list[str]:
    """Words of the question stand as `_p_`: what the answer is about must not decide how it is judged."""
    asked = set(question) - _FUNCTION_WORDS
    return ["_p_" if word in asked else word for word in words]


def ngrams(words: Sequence[str], shortest: int, longest: int) -> list[str]:
    """All runs of `shortest` to `longest` words."""
    return [" ".join(words[i : i + n]) for n in range(shortest, longest + 1) for i in range(len(words) - n + 1)]


def character_ngrams(text: str, shortest: int, longest: int, limit: int = 3000) -> list[str]:
    """Runs of characters within each word, edges marked by a space; of the first `limit` characters."""
    padded = [f" {word} " for word in text[:limit].lower().split()]
    return [w[i : i + n] for w in padded for n in range(shortest, longest + 1) for i in range(max(1, len(w) - n + 1))]


def sentences(text: str) -> list[str]:
    """Sentences and lines, without the empty ones."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The word without its English ending, roughly: enough to see that two texts speak of one thing."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word[: -len(ending)]
    return word


def content(text: str) -> list[str]:
    """Stems of the words that carry meaning."""
    return [stem(word) for word in tokens(text) if word not in _FUNCTION_WORDS and word[0].isalnum()]
