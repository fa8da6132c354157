"""The 25 kinds by id, and how the columns of a row become instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from rlhf.errors import DataError, nearest
from rlhf_ifeval.composition import EndChecker, Quotation, RepeatPrompt, TwoResponses
from rlhf_ifeval.formats import (
    ConstrainedResponse,
    JsonFormat,
    MultipleSections,
    NumberBulletLists,
    NumberHighlightedSections,
    NumberPlaceholders,
    Postscript,
    Title,
)
from rlhf_ifeval.instruction import Instruction
from rlhf_ifeval.keywords import ForbiddenWords, KeywordExistence, KeywordFrequency, LetterFrequency
from rlhf_ifeval.language import ResponseLanguage
from rlhf_ifeval.lengths import NthParagraphFirstWord, NumberParagraphs, NumberSentences, NumberWords
from rlhf_ifeval.letters import CapitalWordFrequency, EnglishCapital, EnglishLowercase, NoComma

KINDS: dict[str, type[Instruction]] = {
    kind.id: kind
    for kind in (
        KeywordExistence,
        KeywordFrequency,
        ForbiddenWords,
        LetterFrequency,
        ResponseLanguage,
        NumberSentences,
        NumberParagraphs,
        NumberWords,
        NthParagraphFirstWord,
        NumberPlaceholders,
        Postscript,
        NumberBulletLists,
        ConstrainedResponse,
        NumberHighlightedSections,
        MultipleSections,
        JsonFormat,
        Title,
        TwoResponses,
        RepeatPrompt,
        EndChecker,
        Quotation,
        EnglishCapital,
        EnglishLowercase,
        CapitalWordFrequency,
        NoComma,
    )
}
ENGLISH = "en:"
"""Stands before the ids in M-IFEval, which has other languages beside."""


def read_instructions(ids: object, kwargs: object) -> list[Instruction]:
    """The instructions of one row, from its `instruction_id_list` and its `kwargs`, one mapping an id, in order.

    `DataError` that names the id and the key for an unknown kind, and for a key that is missing, unknown or of a wrong
    value. Keys that are None count as absent: tables with one column a key fill up with them.
    """
    ids, kwargs = _items("instruction_id_list", ids), _items("kwargs", kwargs)
    if len(ids) != len(kwargs):
        raise DataError(f"kwargs has {len(kwargs)} entries for {len(ids)} instruction ids; give {{}} for none")
    return [_read(identifier, options) for identifier, options in zip(ids, kwargs, strict=True)]


def _items(column: str, value: object) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DataError(f"{column} must be a list, given {value!r:.60}")
    return value


def _read(identifier: object, options: object) -> Instruction:
    name = str(identifier)
    kind = KINDS.get(name.removeprefix(ENGLISH))
    if kind is None:
        raise DataError(f"instruction {name!r} is none of the {len(KINDS)} kinds of IFEval.{nearest(name, KINDS)}")
    if options is not None and not isinstance(options, Mapping):
        raise DataError(f"instruction {name!r}: its kwargs must be a mapping, given {options!r:.60}")
    given = {key: value for key, value in (options or {}).items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise DataError(f"instruction {name!r}: {_finding(kind, error)}") from None


def _finding(kind: type[Instruction], error: ValidationError) -> str:
    """The first of pydantic's findings in a few words."""
    findings = error.errors(include_url=False)
    # An unknown key explains a missing one ("num_word" for "num_words"), so it comes first.
    finding = next((f for f in findings if f["type"] == "extra_forbidden"), findings[0])
    key = ".".join(map(str, finding["loc"]))
    known = list(kind.model_fields)
    if finding["type"] == "extra_forbidden":
        return f"unknown key {key!r} in its kwargs.{nearest(key, known)} Known: {', '.join(known) or 'none'}"
    if finding["type"] == "missing":
        return f"{key!r} is missing from its kwargs"
    message = finding["msg"].removeprefix("Value error, ")
    at = f"{key}={finding['input']!r:.60}: " if key else ""
    return f"{at}{message[0].lower()}{message[1:]}"
