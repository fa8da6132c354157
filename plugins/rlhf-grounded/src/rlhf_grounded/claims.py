"""What a completion asserts: sentences and clauses that a document could support or contradict.

Not claims: questions, refusals, small talk, requests, words about the conversation, and (unless asked for) hedges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlhf_grounded.sentences import plain_text, sentences
from rlhf_grounded.talk import OPENING, is_hedged, is_talk
from rlhf_grounded.words import content, words_of


@dataclass(frozen=True)
class Claim:
    """One assertion, and the question it was made in answer to.

    A `fragment` ("Nevada", "in 2006") says nothing without its question. `denies` is set where the answer is a bare
    "no", and the text is that of the question.
    """

    text: str
    question: str = ""
    fragment: bool = False
    denies: bool = False

    @property
    def wanted(self) -> str:
        """What to look for: a fragment ("in 2006") is found by its question."""
        return f"{self.question} {self.text}" if self.fragment else self.text


# Where another clause with a verb of its own may begin.
_CLAUSE = re.compile(
    r";\s+|,?\s+(?:but|whereas|while|although|though)\s+"
    r"|,\s+(?:and|so)\s+(?=(?:he|she|it|they|this|these|the|his|her|its|their)\b)"
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|am|be|been|being|has|have|had|does|do|did|can|could|will|would|shall|should|may|might|must|"
    r"became|becomes?|began|came|comes?|died|found|gave|gives?|goes|went|grew|held|includes?|kept|knew|knows?|led|left|"
    r"lies|lived?|lives|made|makes?|means|meant|met|ran|runs|said|says?|sang|saw|sold|spoke|stands?|stood|took|takes?|"
    r"taught|told|won|wins|wrote|writes?|owns?|\w{2,}(?:ed|n't|'s been))\b",
    re.IGNORECASE,
)  # fmt: skip
_YES = re.compile(r"^(yes|no)\W*$", re.IGNORECASE)
_FRAGMENT_WORDS = 8
_FEWEST_WORDS = 3


def claims_of(text: str, question: str, *, hedged: bool = False) -> list[Claim]:
    """The claims of a completion, in order, each once; with `hedged`, those put as mere possibility too."""
    whole = [found for found in sentences(plain_text(text)) if not _is_question(found)]
    if len(whole) == 1 and (answer := _short_answer(whole[0], question)):
        return [answer]
    found: dict[str, Claim] = {}
    for sentence in whole:
        for clause in _clauses(sentence):
            if _asserts(clause, hedged=hedged):
                found.setdefault(" ".join(clause.lower().split()).rstrip("."), Claim(clause, question))
    return list(found.values())


def _short_answer(sentence: str, question: str) -> Claim | None:
    """A lone phrase without a subject and verb, read as the answer to the question; None for anything else."""
    if not question.strip() or is_talk(sentence):
        return None
    yes_or_no = _YES.match(sentence)
    if yes_or_no:
        return Claim(question.strip().rstrip("?").strip(), denies=yes_or_no[1].lower() == "no")
    phrase = OPENING.sub("", sentence)
    words = words_of(phrase)
    has_subject = _VERB.search(phrase) and not _VERB.match(phrase)
    if len(words) > _FRAGMENT_WORDS or has_subject or not content(words):
        return None
    return Claim(phrase.rstrip(" ."), question, fragment=True)


def _clauses(sentence: str) -> list[str]:
    """The sentence cut where another clause with a verb of its own begins."""
    sentence = OPENING.sub("", sentence)
    parts: list[str] = []
    for part in _CLAUSE.split(sentence):
        if parts and not (_VERB.search(part) and len(part.split()) >= _FEWEST_WORDS):
            parts[-1] = f"{parts[-1]}, {part}"
        else:
            parts.append(part)
    return [part.strip(" ,;") for part in parts]


def _asserts(clause: str, *, hedged: bool) -> bool:
    if clause.endswith(":") or is_talk(clause) or (is_hedged(clause) and not hedged):
        return False
    words = words_of(clause)
    enough = len(words) >= _FEWEST_WORDS or (len(words) > 1 and _VERB.search(clause) is not None)
    return enough and bool(content(words))


def _is_question(sentence: str) -> bool:
    return sentence.rstrip("\"'”’) ").endswith(("?", "？"))
