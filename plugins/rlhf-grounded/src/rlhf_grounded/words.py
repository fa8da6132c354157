"""A text as the words that carry its meaning: each a number, a name or a plain word, by its stem."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rlhf_grounded.numerals import Bound, bound_before, scale_of, value_of
from rlhf_grounded.opposites import NEGATIONS
from rlhf_grounded.stems import stem_of

Kind = Literal["number", "name", "word", "function", "negation"]

# A character of a script without spaces is a word of its own.
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th|s)?%?(?![^\W\d_])"
    r"|(?:[A-Z]\.){2,}|n['’]t\b|[^\W_]+?(?=n['’]t\b)|(?i:(?:twen|thir|for|fif|six|seven|eigh|nine)ty-[a-z]+)|[^\W_]+"
)
_FUNCTION = frozenset(
    "a an the this that these those and or but if then than as of in on at by for with from to into onto upon about "
    "through during between among against is are was were be been being am do does did done has have had having will "
    "would shall should can could may might must it its he him his she her hers they them their theirs we us our ours "
    "you your yours i me my mine who whom whose which what when where why how there here so such also too very just "
    "only solely even still both each other another one same own s t d ll re ve m because while although though "
    "however therefore thus hence since until unless whether either rather quite ever again once currently called "
    "named known made make makes use used using someone something anyone anything etc according".split()
)


class Word(NamedTuple):
    """One word of a text.

    `stem` is what is compared, `text` the word in small letters; a number has a `value` and how it is meant.
    """

    text: str
    stem: str
    kind: Kind
    value: float | None = None
    bound: Bound = "exact"
    joins_next: bool = False
    """A name with another name right behind it."""

    @property
    def is_year(self) -> bool:
        """Whether it is a number that reads as a year."""
        return self.value is not None and 1000 <= self.value <= 2100 and self.value.is_integer()


def words_of(text: str) -> list[Word]:
    """All words of a text, in order; function words too, which carry no meaning of their own."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", text))
    lower = [token.lower().replace("’", "'") for token in tokens]
    found: list[Word] = []
    for place, (token, word) in enumerate(zip(tokens, lower, strict=True)):
        scale, last = scale_of(word), found[-1] if found else None
        if scale is not None and last is not None and last.value is not None:  # "1.5 million" is one number
            found[-1] = last._replace(text=f"{last.text} {word}", value=last.value * scale)
            continue
        value = None if _counts_nothing(word, lower, place) else value_of(word)
        if value is not None:
            bound, length = bound_before(lower[max(0, place - 2) : place])
            found[len(found) - length :] = [one._replace(kind="function") for one in found[len(found) - length :]]
            found.append(Word(word, word, "number", value, bound))
        else:
            found.append(_word(token, word, "".join(lower[place + 1 : place + 2]), first=place == 0))
    return _joined(found, begins_large=bool(tokens) and tokens[0][0].isupper())


def _joined(words: list[Word], *, begins_large: bool) -> list[Word]:
    """Names that stand together, told so. A large letter at the beginning makes a name only before another one."""
    names = [word.kind == "name" for word in words]
    if begins_large and names[1:2] == [True] and words[0].kind == "word":
        names[0] = True
    return [
        word._replace(kind="name", joins_next=followed) if name else word
        for word, name, followed in zip(words, names, [*names, False][1:], strict=True)
    ]


def content(words: Sequence[Word]) -> list[Word]:
    """Those that say something: numbers, names and plain words, each once."""
    seen: dict[tuple[str, float | None], Word] = {}
    for word in words:
        if word.kind in ("number", "name", "word"):
            seen.setdefault((word.stem, word.value), word)
    return list(seen.values())


def _word(token: str, word: str, after: str, *, first: bool) -> Word:
    if word in NEGATIONS and not _denies_nothing(word, after):
        return Word(word, stem_of(word), "negation")
    named = token[0].isupper() and not first
    if (word in _FUNCTION and not (named and word in ("may", "us"))) or word in NEGATIONS:
        return Word(word, word, "function")
    return Word(word, stem_of(word), "name" if named else "word")


def _counts_nothing(word: str, words: Sequence[str], place: int) -> bool:
    """Zero denies, a second is short, and "one of them" and "One day" do not count."""
    if word == "one":
        return place == 0 or words[place + 1 : place + 2] in (["of"], ["another"])
    return word in ("zero", "second")


def _denies_nothing(word: str, after: str) -> bool:
    """No. 1; not only; "yet" where it means "but"."""
    if word == "no":
        return after[:1].isdigit()
    return (word == "not" and after == "only") or (word == "yet" and after != "to")
