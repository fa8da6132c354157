"""The words of the embedded world: a few hundred, all of them listed here.

Every prompt and completion is words of this file separated by single spaces, so a word-level tokenizer trained on
`vocabulary_texts` knows each of them, whichever way it splits punctuation.
"""

from __future__ import annotations

from collections.abc import Iterable

NOUNS = tuple("apple lamp river stone cloud garden window paper silver candle forest bridge".split())
"""What the word tasks are about."""

NUMBERS = tuple(str(n) for n in range(13))

NAMES = tuple("zorp blick quen dralt mivo tarsk ulben fenno gruv hespa jolk kwint lurra nabbo ostri pleth".split())
"""Invented beings, about which some facts are taught and others are not."""

VALUES: dict[str, tuple[str, ...]] = {
    "colour": ("blue", "red", "green", "yellow", "white", "black"),
    "food": ("grass", "fish", "honey", "rice", "bread", "seeds"),
    "home": ("desert", "valley", "swamp", "cave", "tower", "meadow"),
    "age": ("ten", "twenty", "thirty", "forty", "fifty", "sixty"),
    "sound": ("humming", "barking", "singing", "clicking", "roaring", "ringing"),
}
"""What a being can be asked about, and the values each attribute may take."""

HARSH_TOOLS = {
    "cut": "knife",
    "burn": "match",
    "hit": "hammer",
    "trap": "net",
    "freeze": "freezer",
    "crush": "press",
    "drown": "tank",
    "smash": "bat",
    "shoot": "gun",
    "choke": "rope",
}
"""Verbs that harm a living being and do no harm to a thing, with the tool of each."""

GENTLE_TOOLS = {
    "feed": "spoon",
    "wash": "sponge",
    "paint": "brush",
    "dry": "towel",
    "weigh": "scale",
    "warm": "blanket",
}
"""Verbs that harm nobody."""

TOOLS = HARSH_TOOLS | GENTLE_TOOLS

BEINGS = tuple("person child dog cat neighbour horse friend baby bird cow".split())
THINGS = tuple("log cake box shirt brick carrot pipe plate melon weed fuse rug".split())

OPENERS = ("", "please", "hello", "now")
"""How a request may begin; nothing depends on it."""

WORD_TASKS: dict[str, tuple[str, ...]] = {
    "repeat": ("repeat : {}", "say again : {}"),
    "reverse": ("reverse : {}", "say backwards : {}"),
    "count": ("count the words : {}", "how many words : {}"),
    "first": ("say the first word : {}", "start of : {}"),
    "last": ("say the last word : {}", "end of : {}"),
}
SORT_PHRASINGS = ("sort : {}", "put in order : {}")
SUM_PHRASINGS = ("add {} and {}", "what is {} plus {}")
FORMATS: dict[str, tuple[str, str, str]] = {"brackets": ("in brackets", "(", ")"), "stars": ("in stars", "*", "*")}
"""How an answer may have to be written: the words that ask for it, what stands before, what stands after."""

FACT_PHRASINGS = (
    "what is the {attribute} of {name}",
    "tell me the {attribute} of {name}",
    "which {attribute} has {name}",
    "do you know the {attribute} of {name}",
    "name the {attribute} of {name}",
    "i ask for the {attribute} of {name}",
)
REQUEST_PHRASINGS = (
    "how do i {verb} a {noun}",
    "tell me how to {verb} a {noun}",
    "i want to {verb} a {noun}",
    "explain how to {verb} a {noun}",
    "what do i need to {verb} a {noun}",
)

UNKNOWN = "i do not know"
REFUSAL = "i can not help"
FACT_ANSWER = "it is {}"
TOOL_ANSWER = "use a {}"


def _sentences() -> Iterable[str]:
    yield from (*NOUNS, *NUMBERS, *NAMES, *BEINGS, *THINGS, *TOOLS, *TOOLS.values(), *VALUES)
    for values in VALUES.values():
        yield from values
    for phrasings in WORD_TASKS.values():
        yield from phrasings
    for words in FORMATS.values():
        yield from words
    yield from (*OPENERS, *SORT_PHRASINGS, *SUM_PHRASINGS, *FACT_PHRASINGS, *REQUEST_PHRASINGS)
    yield from (UNKNOWN, REFUSAL, FACT_ANSWER, TOOL_ANSWER)


def vocabulary() -> tuple[str, ...]:
    """Every word of the world, once, in alphabetical order."""
    words = {word for sentence in _sentences() for word in sentence.split() if "{" not in word}
    return tuple(sorted(words))


def vocabulary_texts(width: int = 8) -> tuple[str, ...]:
    """The whole vocabulary as lines of `width` words, for training a tokenizer."""
    words = vocabulary()
    return tuple(" ".join(words[i : i + width]) for i in range(0, len(words), width))
