"""Ways of speaking that assert nothing a document could support: small talk, refusals, hedges. English."""

from __future__ import annotations

import re

# What a claim may begin with without becoming another one.
_OPENERS = (
    "sure|certainly|of course|absolutely|okay|ok|yes|no|well|so|indeed|in fact|actually|in short|in summary|however",
    "therefore|additionally|moreover|furthermore|also|finally|(?:the |my )?(?:final )?answer(?: is)?",
)
_SMALL_TALK = (
    "hi|hello|hey|dear|greetings|thanks|thank you|sure|certainly|of course|(?:great|good) question|you're welcome",
    "please|let me|let us|let's|feel free|here(?:'s| is| are)[^.]{0,80}:?$|i hope|hope this|(?:i'd|i would) be happy",
    "(?:i'm|i am) happy|happy to|good luck|goodbye|have a|remember to|note that this is|is there anything",
    "if you (?:have|need|want|would)|don't hesitate|do not hesitate|i'll",
    "i (?:can|could|will) (?:help|assist|explain|provide|try)",
)
_REFUSALS = (
    r"\b(?:i|we)(?: am|'m| was|'re| are)? (?:sorry|unable|not able|afraid|apologi[sz]e|can ?not|can't|couldn't)\b",
    r"\b(?:i|we) (?:could not|do not|don't|won't|will not|must decline|have no|haven't|lack)\b",
    r"^sorry\b|^apologies\b|\bas an? (?:ai|language model|assistant)\b|\bmy (?:training|knowledge)\b",
    r"\b(?:the|this|these|your) (?:documents?|passages?|context|text|sources?|information) do(?:es)?(?: not|n't)\b",
    r"\b(?:is|are|was) not (?:mentioned|stated|specified|provided|given)\b",
    r"\b(?:it is|it's) (?:unknown|unclear|not known|not clear)\b|^(?:unknown|unclear|not sure|no idea)\W*$",
)
_HEDGES = (
    r"\bi (?:think|believe|guess|suppose|assume|suspect)\b|\bin my opinion\b|\bif i remember\b|\bas far as i know\b",
    r"\bto my knowledge\b|\b(?:perhaps|maybe|possibly|probably|presumably|apparently|might|likely|unlikely)\b",
    # "on may 5" is a date, and "May" a month: only the small letters of a verb count.
    r"(?-i:\bmay\b)(?! \d)|\bcould (?:be|have)\b|\bseems? (?:to|that|like)\b|\bappears? (?:to be|that)\b",
    r"\bnot (?:entirely )?(?:sure|certain)\b",
)

OPENING = re.compile(
    rf"^(?:(?:{'|'.join(_OPENERS)})[,:!.]\s+"
    r"|(?:according to|based on|as stated in|as per) (?:the|this|your) [^,.]{1,60},\s+"
    r"|it is (?:true|known|clear|worth noting|important to note) that\s+)+",
    re.IGNORECASE,
)


def is_talk(clause: str) -> bool:
    """Whether it speaks to the reader and not of the world: a greeting, an offer, a refusal, "not mentioned"."""
    return bool(_TALK.match(clause) or _REFUSAL.search(clause))


def is_hedged(clause: str) -> bool:
    """Whether it is put as mere possibility."""
    return bool(_HEDGE.search(clause))


_TALK = re.compile(rf"^(?:{'|'.join(_SMALL_TALK)})\b", re.IGNORECASE)
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)
_HEDGE = re.compile("|".join(_HEDGES), re.IGNORECASE)
