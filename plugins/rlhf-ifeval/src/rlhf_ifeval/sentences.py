"""Sentences of a text, counted without a trained model.

The reference checker counts with nltk's Punkt model of English (Kiss and Strunk 2006, "Unsupervised multilingual
sentence boundary detection"). The same rules are kept here, with a short list of abbreviations where Punkt has learned
ones. A sentence ends where white space follows `.`, `?` or `!`, with closing quotes and brackets between them or not.
Line breaks alone end nothing. Neither does a period after an abbreviation, unless a word follows that often begins a
sentence, nor one after an initial before a capital, nor one after a number before a small letter; that after the number
of a list's item does. Marks in a row end one sentence, and what has no letter or digit is none: Punkt takes `!!!` for
three.
"""

from __future__ import annotations

import re
from itertools import pairwise

TOKEN = re.compile(r"\S+")
WORD = re.compile(r"\w")
NUMBER = re.compile(r"[\d.,]+")
OPENING = "([{\"'“‘«*_"
CLOSING = ")]}\"'”’»*_」』）"
ENDS = tuple(".?!。！？।؟")
# Chinese and Japanese put no white space after a sentence.
UNSPACED_END = re.compile("[。！？]+[」』）]*")
ABBREVIATIONS = frozenset(
    "mr mrs ms messrs dr prof st sr jr hon rev gen col lt maj sgt capt cmdr adm gov pres rep sen "
    "inc ltd co corp bros dept est vs etc approx e.g i.e a.m p.m ph.d u.s u.k u.n d.c "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
BEFORE_NUMBERS = frozenset("no nos vol fig figs pp ch sec eq".split())
"""Abbreviations before a digit, and words elsewhere."""
STARTERS = frozenset(
    "a an and as at but by for from he her his how i if in it its my no not on or our she so that the their then there "
    "these they this those to we what when where while who why with yes you your".split()
)
LETTERS = re.compile(r"[^\W\d_]+")


def num_sentences(text: str) -> int:
    """How many sentences; a rest without a mark at its end is one."""
    tokens: list[str] = TOKEN.findall(UNSPACED_END.sub(r"\g<0> ", text))
    count, begun = 0, False
    for token, following in pairwise([*tokens, ""]):
        begun = begun or WORD.search(token) is not None
        if begun and _ends(token, following):
            count, begun = count + 1, False
    return count + begun


def _ends(token: str, following: str) -> bool:
    """Whether a sentence ends with `token`."""
    bare = token.rstrip(CLOSING)
    if not bare.endswith(ENDS):
        return False
    if not bare.endswith("."):
        return True
    word = bare.rstrip(".")
    if bare == word + ".":
        return not _abbreviates(word.lstrip(OPENING).lower(), following.lstrip(OPENING))
    return False  # an ellipsis


def _abbreviates(word: str, following: str) -> bool:
    """Whether the period after `word` (in small letters) belongs to the word alone."""
    first = following[:1]
    if word in ABBREVIATIONS:
        letters = LETTERS.match(following)
        return not (first.isupper() and letters and letters.group().lower() in STARTERS)
    if word in BEFORE_NUMBERS:
        return first.isdigit()
    if NUMBER.fullmatch(word):
        return first.islower()
    return len(word) == 1 and word.isalpha() and first.isupper()
