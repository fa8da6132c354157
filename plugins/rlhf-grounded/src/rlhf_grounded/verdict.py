"""Whether a passage supports a claim, contradicts it, or says nothing of it: rules over words, numbers and names.

Supported: a sentence of the passage speaks of the claim's subject and holds what the claim says of it: every name and
number, and nearly all other words by their stems, with the same polarity. Contradicted: a sentence that speaks of the
same denies it by a negation, an antonym, or another number or name in the same place. Not found: anything else.

Words in common are not understanding: a paraphrase without shared words is `not found`, and who did what to whom is
not looked at. Figures: README.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_grounded.claims import Claim
from rlhf_grounded.matching import held, missing, same, share
from rlhf_grounded.opposites import deny
from rlhf_grounded.sentences import sentences
from rlhf_grounded.words import Word, content, words_of

Finding = Literal["supported", "contradicted", "not found"]

ENOUGH = 0.8
"""Share of the plain words a claim says of its subject that a supporting sentence holds."""
ON_TOPIC = 0.5
"""Share of a claim's words, its subject's too, that a contradicting sentence holds."""

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
    negated: bool


@dataclass(frozen=True)
class _Scope:
    """A sentence, after the one its "it" or "the film" refers to; `dangling` where the passage begins with such."""

    words: tuple[Word, ...]
    dangling: bool


def judge(claim: Claim, passage: str) -> Verdict:
    """What this passage makes of the claim."""
    statement = _parse(claim)
    scopes = list(_scopes(passage))
    about = [scope for scope in scopes if _speaks_of(statement.subject, scope)]
    against: list[tuple[float, str]] = []
    for scope in about:
        reason = _contradiction(statement, scope.words)
        if reason:
            against.append((share(statement.topic, scope.words), reason))
        elif _supports(statement, scope.words):
            return Verdict("supported")
    if against:
        return Verdict("contradicted", max(against)[1])
    return Verdict("not found", _what_is_missing(statement, about))


def _parse(claim: Claim) -> _Statement:
    words = words_of(claim.text)
    asked = content(words_of(claim.question))
    end = 0 if claim.fragment else _end_of_subject(words)
    subject = [word for word in content(words[:end]) if word.kind != "number"]
    said = [word for word in content(words) if not held(word, subject)] or content(words)
    return _Statement(
        words=tuple(words),
        subject=tuple(subject),
        said=tuple(said),
        added=tuple(word for word in said if not held(word, asked)),
        topic=tuple([*content(words), *asked] if claim.fragment else content(words)),
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


def _scopes(passage: str) -> Iterator[_Scope]:
    referred: list[Word] | None = None
    for sentence in sentences(passage):
        words = words_of(sentence)
        if _refers_back(words):
            yield _Scope((*(referred or ()), *words), dangling=referred is None)
        else:
            referred = words
            yield _Scope(tuple(words), dangling=False)


def _refers_back(words: Sequence[Word]) -> bool:
    if any(word.text in _STANDS_FOR_SUBJECT for word in words[:4]):
        return True
    return len(words) > 1 and words[0].text == "the" and words[1].kind == "word"


def _speaks_of(subject: Sequence[Word], scope: _Scope) -> bool:
    return not subject or scope.dangling or share(subject, scope.words) >= ON_TOPIC


def _supports(claim: _Statement, window: Sequence[Word]) -> bool:
    if any(word.kind != "word" for word in missing(claim.said, window)):
        return False
    enough = all(share(_weighty(words), window) >= ENOUGH for words in (claim.said, claim.added) if words)
    return enough and claim.negated == _negates(claim.said, window)


def _contradiction(claim: _Statement, window: Sequence[Word]) -> str:
    """How this window denies the claim; empty where it does not."""
    lost = missing(claim.said, window)
    if share(claim.topic, window) >= ON_TOPIC:
        pair = _opposites(claim.words, window)
        if pair:
            return f"it says {pair[1]!r}, not {pair[0]!r}"
    same_words = share(claim.said, window) >= ENOUGH and all(word.kind == "word" for word in lost)
    if same_words and claim.negated != _negates(claim.said, window):
        return "it affirms what the claim denies" if claim.negated else "it denies it"
    if not claim.negated:
        for word in lost:
            other = _in_its_place(word, claim.words, window) if word.kind != "word" else None
            if other is not None:
                return f"it has {other.text!r} in place of {word.text!r}"
    return ""


def _opposites(claim: Sequence[Word], window: Sequence[Word]) -> tuple[str, str] | None:
    """A word of the claim that the window does not hold, and the word of the window that denies it."""
    said = {word.text for word in window}
    for word in claim:
        denying = next((found.text for found in window if deny(word.text, found.text)), None)
        if denying is not None and word.text not in said:
            return word.text, denying
    return None


def _in_its_place(word: Word, claim: Sequence[Word], window: Sequence[Word]) -> Word | None:
    """The number or name the window has where the claim has `word`: after the same words, and not in the claim."""
    before = _lead(claim, claim.index(word))
    if not before:
        return None
    for place, found in enumerate(window):
        alike = found.kind == word.kind and found.is_year == word.is_year
        if alike and _lead(window, place) == before and not any(same(found, other) for other in claim):
            return found
    return None


def _lead(words: Sequence[Word], place: int) -> tuple[str, ...]:
    """The plain word before this place, by its stem, and the function words between: ("direct", "by")."""
    for start in range(place - 1, max(-1, place - 5), -1):
        if words[start].kind == "word":
            return tuple(word.stem for word in words[start:place])
        if words[start].kind != "function":
            break
    return ()


def _negates(said: Sequence[Word], window: Sequence[Word]) -> bool:
    """Whether a negation stands among the words the window shares with the claim, or just before them."""
    places = [place for place, word in enumerate(window) if any(same(claimed, word) for claimed in said)]
    if not places:
        return False
    near = window[max(0, min(places) - 3) : max(places) + 1]
    return sum(word.kind == "negation" for word in near) % 2 == 1


def _weighty(words: Sequence[Word]) -> Sequence[Word]:
    return [word for word in words if word.stem not in _SAYS_LITTLE] or words


def _what_is_missing(claim: _Statement, about: Sequence[_Scope]) -> str:
    if not about:
        return "it does not speak of " + " ".join(word.text for word in claim.subject[:4])
    lost = min((missing(claim.said, scope.words) for scope in about), key=len) or claim.said
    return "it lacks " + ", ".join(repr(word.text) for word in lost[:4])
