"""Whether a passage supports a claim, contradicts it, or says nothing of it: rules over words, numbers and names.

Supported: a sentence of the passage speaks of the claim's subject and holds what the claim says of it: every name and
number, and nearly all other words by their stems, with the same polarity. Contradicted: a sentence that speaks of the
same denies it by a negation, an antonym, or another number or name in the same place. Not found: anything else.

Words in common are not understanding: a paraphrase without shared words is `not found`, and who did what to whom is
not looked at. Figures: README.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rlhf_grounded.claims import Claim
from rlhf_grounded.kinds import is_kind
from rlhf_grounded.matching import Bag
from rlhf_grounded.opposites import denials_of
from rlhf_grounded.sentences import sentences
from rlhf_grounded.words import Word, content, words_of

Finding = Literal["supported", "contradicted", "not found"]

ENOUGH = 0.8
"""Share of the plain words a claim says of its subject that a supporting sentence holds."""
ON_TOPIC = 0.5
"""Share of a claim's words, its subject's too, that a contradicting sentence holds."""
MOSTLY = 0.5
"""More than this share of its subject's words stands in a sentence that speaks of it."""

_TELLING = 3
"""A short answer of fewer words than that stands in many places, and counts where its question is spoken of."""
_VERBS = frozenset(
    "is are was were be been has have had do does did will would can could may might must shall should".split()
)
_STANDS_FOR_SUBJECT = frozenset("he she it they his her its their this these".split())
_SAYS_LITTLE = frozenset("kind type sort genr fit way thing name work appear serv role person".split())


@dataclass(frozen=True)
class Verdict:
    """What a passage makes of a claim, and why in a few words."""

    finding: Finding
    reason: str = ""


@dataclass(frozen=True)
class _Statement:
    """A claim's words: of whom it speaks, what it says of them, what of that the question did not say already."""

    words: tuple[Word, ...]
    subject: tuple[Word, ...]
    said: tuple[Word, ...]
    added: tuple[Word, ...]
    topic: tuple[Word, ...]
    about: tuple[Word, ...]
    negated: bool


@dataclass(frozen=True)
class _Scope:
    """A sentence: what it speaks of, which may stand in the sentence its "it" or "the film" refers to, and its words.

    It is `dangling` where the passage begins with such a word, so that what it refers to cannot be known.
    """

    spoken_of: Bag
    bag: Bag
    dangling: bool


def judge(claim: Claim, passage: str) -> Verdict:
    """What this passage makes of the claim."""
    statement = _parse(claim)
    about = [scope for scope in _scopes(passage) if _speaks_of(statement, scope)]
    against: list[tuple[float, str]] = []
    for scope in about:
        reason = _contradiction(statement, scope.bag)
        if reason:
            against.append((scope.bag.share(statement.topic), reason))
        elif _supports(statement, scope.bag):
            return Verdict("supported")
    if against:
        return Verdict("contradicted", max(against)[1])
    return Verdict("not found", _what_is_missing(statement, about))


def _parse(claim: Claim) -> _Statement:
    words = words_of(claim.text)
    asked = content(words_of(claim.question))
    end = 0 if claim.fragment else _end_of_subject(words)
    subject = [word for word in content(words[:end]) if word.kind != "number"]
    said = Bag(subject).missing(content(words)) or content(words)
    return _Statement(
        words=tuple(words),
        subject=tuple(subject),
        said=tuple(said),
        added=tuple(Bag(asked).missing(said)),
        topic=tuple([*content(words), *asked] if claim.fragment else content(words)),
        about=tuple(asked if claim.fragment and len(said) < _TELLING else ()),
        negated=(sum(word.kind == "negation" for word in words) + claim.denies) % 2 == 1,
    )


def _end_of_subject(words: Sequence[Word]) -> int:
    """How many words come before the verb: up to an auxiliary, or else the names a claim begins with."""
    for place, word in enumerate(words):
        if place and word.text in _VERBS:
            return place
    for place, word in enumerate(words):
        if place and word.kind not in ("name", "number", "function"):
            return place
    return 0


@lru_cache(maxsize=1024)
def _scopes(passage: str) -> tuple[_Scope, ...]:
    scopes: list[_Scope] = []
    referred: list[Word] | None = None
    for sentence in sentences(passage):
        words = words_of(sentence)
        back = _refers_back(words)
        spoken_of = Bag([*(referred or ()), *words] if back else words)
        scopes.append(_Scope(spoken_of, Bag(words), dangling=back and referred is None))
        referred = referred if back else words
    return tuple(scopes)


def _refers_back(words: Sequence[Word]) -> bool:
    if any(word.text in _STANDS_FOR_SUBJECT for word in words[:4]):
        return True
    return len(words) > 1 and words[0].text == "the" and is_kind(words[1].stem)


def _speaks_of(claim: _Statement, scope: _Scope) -> bool:
    """Whether it is about the claim's subject; for a short answer, about something of its question."""
    if scope.dangling:
        return True
    if claim.about:
        return scope.spoken_of.share(claim.about) > 0
    return not claim.subject or scope.spoken_of.share(claim.subject) > MOSTLY


def _supports(claim: _Statement, bag: Bag) -> bool:
    if any(word.kind != "word" for word in bag.missing(claim.said)):
        return False
    enough = all(bag.share(_weighty(words)) >= ENOUGH for words in (claim.said, claim.added) if words)
    return enough and claim.negated == _negates(claim.said, bag.words)


def _contradiction(claim: _Statement, bag: Bag) -> str:
    """How this sentence denies the claim; empty where it does not."""
    lost = bag.missing(claim.said)
    if not claim.negated and bag.share(claim.topic) >= ON_TOPIC:
        pair = _opposites(claim.words, bag)
        if pair:
            return f"it says {pair[1]!r}, not {pair[0]!r}"
    same_words = bag.share(claim.said) >= ENOUGH and all(word.kind == "word" for word in lost)
    if same_words and claim.negated != _negates(claim.said, bag.words):
        return "it affirms what the claim denies" if claim.negated else "it denies it"
    if not claim.negated and (replaced := _replaced(claim, lost, bag)):
        return f"it has {replaced[1]!r} in place of {replaced[0]!r}"
    return ""


def _replaced(claim: _Statement, lost: Sequence[Word], bag: Bag) -> tuple[str, str] | None:
    """A number or name of the claim that the sentence lacks, and the one it has instead."""
    for word in lost:
        other = _in_its_place(word, claim.words, bag.words) if word.kind != "word" else None
        if other is None and word.is_year and len(lost) == 1:  # all the same but for the year, wherever it stands
            other = next((found for found in bag.words if found.is_year), None)
        if other is not None:
            return word.text, other.text
    return None


def _opposites(claim: Sequence[Word], bag: Bag) -> tuple[str, str] | None:
    """A word of the claim that the sentence does not hold, and the word of the sentence that denies it."""
    for word in claim:
        denying = denials_of(word.text) & bag.texts
        if denying and word.text not in bag.texts:
            return word.text, min(denying)
    return None


def _in_its_place(word: Word, claim: Sequence[Word], found: Sequence[Word]) -> Word | None:
    """The number or name that stands where the claim has `word`, and is not in the claim.

    The same place is after the same words, for a number also before the same word ("400 animals").
    """
    place = claim.index(word)
    lead, follower = _lead(claim, place), _follower(claim, place)
    claimed = Bag(claim)
    for number, other in enumerate(found):
        if other.kind != word.kind or other.is_year != word.is_year or claimed.holds(other):
            continue
        counts_the_same = word.kind == "number" and follower and _follower(found, number) == follower
        if counts_the_same or (lead and _lead(found, number) == lead):
            return other
    return None


def _follower(words: Sequence[Word], place: int) -> str:
    following = words[place + 1 : place + 2]
    return following[0].stem if following and following[0].kind == "word" else ""


def _lead(words: Sequence[Word], place: int) -> tuple[str, ...]:
    """The plain word before this place, or before the names that end in it, and the function words between."""
    end = place
    while end > 0 and words[end].kind == "name" and words[end - 1].kind == "name":
        end -= 1
    for start in range(end - 1, max(-1, end - 5), -1):
        if words[start].kind == "word":
            return tuple(word.stem for word in words[start:end])
        if words[start].kind != "function":
            break
    return ()


def _negates(said: Sequence[Word], found: Sequence[Word]) -> bool:
    """Whether a negation stands among the words a sentence shares with the claim, or just before them."""
    claimed = Bag(said)
    places = [place for place, word in enumerate(found) if claimed.holds(word)]
    if not places:
        return False
    near = found[max(0, min(places) - 3) : max(places) + 1]
    return sum(word.kind == "negation" for word in near) % 2 == 1


def _weighty(words: Sequence[Word]) -> Sequence[Word]:
    return [word for word in words if word.stem not in _SAYS_LITTLE] or words


def _what_is_missing(claim: _Statement, about: Sequence[_Scope]) -> str:
    if not about:
        return "it does not speak of " + " ".join(word.text for word in claim.subject[:4])
    lost = min((scope.bag.missing(claim.said) for scope in about), key=len) or claim.said
    return "it lacks " + ", ".join(repr(word.text) for word in lost[:4])
