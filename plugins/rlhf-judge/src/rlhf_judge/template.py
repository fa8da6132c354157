"""The words of a question to the judge: a template with named places, filled in one pass."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rlhf.errors import nearest
from rlhf.types import Rollout

_PLACE = re.compile(r"\{([a-z][a-z_0-9]*)\}")

POINTWISE = """\
Judge the last answer of an AI assistant in this conversation.

{conversation}

{answer}

{reference}

Judge it by this alone:
{rubric}

{verdict}"""

PAIRWISE = """\
Two AI assistants have answered the same conversation. Decide which answer is better.

{conversation}

{answer_1}

{answer_2}

{reference}

Judge them by this alone: {criteria}
The order in which they are shown means nothing, and neither does their length.

{verdict}"""

PLACES = frozenset({"conversation", "answer", "reference", "rubric", "verdict"})
PAIR_PLACES = frozenset({"conversation", "answer_1", "answer_2", "reference", "criteria", "verdict"})


def check_template(template: str, known: Collection[str], required: Collection[str]) -> None:
    """Raise `ValueError` for a place nobody fills, or one that is missing."""
    found = set(_PLACE.findall(template))
    unknown = sorted(found - set(known))
    if unknown:
        raise ValueError(
            f"the template has a place {{{unknown[0]}}} that nothing fills.{nearest(unknown[0], known)} "
            f"Known: {', '.join(sorted(known))}"
        )
    missing = sorted(set(required) - found)
    if missing:
        raise ValueError(f"the template needs a place {{{missing[0]}}}")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each place filled once, so that braces within a value stay as they are. An empty place goes
    together with the line breaks after it.
    """
    for name in (name for name, value in values.items() if not value):
        template = re.sub(rf"\{{{name}\}}\n*", "", template)
    return _PLACE.sub(lambda place: values.get(place[1], place[0]), template)


def conversation_text(rollout: Rollout) -> str:
    """What the assistant answered, as the judge is shown it."""
    messages = rollout.prompt.messages
    return rollout.prompt.last_user_text if messages is None else turns_text(messages)


def turns_text(turns: Sequence[Mapping[str, Any]]) -> str:
    """The question alone where there is nothing else, or every turn with its role."""
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
