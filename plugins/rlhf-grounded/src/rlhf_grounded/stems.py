"""The part of an English word that its forms share."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_FEWEST_LETTERS = 3
"""What is left of a word at least, when its suffix is taken off."""

# Longer ones first, where one ends in another.
_SUFFIXES = (
    "ization ational fulness ousness iveness ically ations ation ments ment ingly edly ness ions ion ings ing ers ors "
    "ies ied ian ist er or ed es ly al an y e s"
).split()

_FAMILIES = """
write wrote written writes writer writers writing
sing sang sung song songs singer singers
win won wins winner winning
start started begin began begun beginning commence commenced
come came coming
go went gone goes
take took taken
give gave given
know knew known
speak spoke spoken
teach taught
buy bought
sell sold sales
build built builder
hold held
lead led leader
leave left
lose lost loss
run ran
grow grew grown growth
die died death dead deceased
born birth
bear bore borne
marry married marriage wed wedded wedding spouse
play played player playing
found founded founder founders founding establish established
locate located location situated
receive received
create created creator creation
star starred stars starring
movie film movies films
tv television
usa america american americans u.s. us u.s.a.
uk britain british
france french
germany german
spain spanish
netherlands dutch
greece greek
switzerland swiss
england english
scotland scottish
wales welsh
ireland irish
sweden swedish
denmark danish
finland finnish
poland polish
turkey turkish
portugal portuguese
fiction fictional
child children
person people
man men
woman women
wife wives
mouse mice
foot feet
"""


def _irregular() -> dict[str, str]:
    table: dict[str, str] = {}
    for family in _FAMILIES.strip().splitlines():
        words = family.split()
        for word in words:
            assert word not in table, f"{word!r} is of two families"
            table[word] = words[0]
    return table


_IRREGULAR = _irregular()


@lru_cache(maxsize=65536)
def stem_of(word: str) -> str:
    """The stem of a word (lower case): `directed`, `director` and `directs` meet in `direct`. Accents do not count."""
    known = _IRREGULAR.get(word)
    if known is not None:
        return known
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
    for suffix in _SUFFIXES:
        if plain.endswith(suffix) and len(plain) - len(suffix) >= _FEWEST_LETTERS:
            return plain[: -len(suffix)]
    return plain
