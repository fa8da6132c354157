"""Conversations as data sets write them (roles and content, ShareGPT, transcripts, histories) into `Message` tuples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlhf.types import Message

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
}
_NO_CHARACTERS = re.compile("[\ud800-\udfff\ufdd0\ufdd1]")
"""Halves of surrogate pairs, which have no bytes and so no tokens; and what marks contents in `rlhf.data.spans`."""

_TRANSCRIPT_TURN = re.compile(r"\n\n(Human|Assistant):")


class Fault(ValueError):
    """What is wrong with one row; whoever knows the row's place makes a `DataError` of it, or counts it."""


def as_text(value: Any, column: str) -> str:
    """The column's text; a fault where it is null or not a string."""
    if value is None:
        raise Fault(f"`{column}` is null")
    if not isinstance(value, str):
        raise Fault(f"`{column}` should be text, is {type(value).__name__}")
    odd = _NO_CHARACTERS.search(value)
    if odd is not None:
        raise Fault(f"`{column}` holds U+{ord(odd.group()):04X} at character {odd.start()}, which is no character")
    return value


def decoded(value: Any) -> Any:
    """The value, decoded where it is JSON text of turns, as files without nesting (.csv) hold them.

    Other JSON stays text: an answer may well be a list of function calls.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            turns = json.loads(value)
        except json.JSONDecodeError:
            return value
        return turns if turns and all(map(_is_turn, turns)) else value
    return value


def is_conversation(value: Any) -> bool:
    """Whether this is a list of turns, in either spelling."""
    value = decoded(value)
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(_is_turn, value))


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def read_turns(value: Any, column: str) -> tuple[Message, ...]:
    """A list of turns, whichever names its keys have; their order is checked."""
    value = decoded(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Fault(f"`{column}` should be a list of turns, is {'null' if value is None else type(value).__name__}")
    if not value:
        raise Fault(f"`{column}` has no turns")
    return in_order(tuple(read_turn(turn, f"{column}[{number}]") for number, turn in enumerate(value)))


def read_turn(turn: Any, where: str) -> Message:
    """One turn: `role`/`content` or `from`/`value`, with `weight` or `loss_weight` where the data has one."""
    if not isinstance(turn, Mapping):
        raise Fault(f"`{where}` should be an object with role and content, is {type(turn).__name__}")
    name = turn.get("role", turn.get("from"))
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise Fault(f"`{where}` has the unknown role {name!r}: known are {', '.join(_ROLES)}")
    message = Message(role=role, content=_content(turn.get("content", turn.get("value")), where))
    weight = turn.get("weight", turn.get("loss_weight"))
    if weight is not None:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise Fault(f"`{where}` has the weight {weight!r}: a number that is not negative is needed")
        message["weight"] = float(weight)
    return message


def _content(value: Any, where: str) -> str:
    """Text, or a list of text parts as multimodal data sets write it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(_part(part, where) for part in value)
    return as_text(value, f"{where}.content")


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("type", "text") != "text":
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise Fault(f"`{where}` has a part of type {kind!r}: only text is supported")
    return as_text(part.get("text", part.get("value")), f"{where}.content")


def in_order(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, if their roles are: system first if at all, then user and assistant in turn, tools answering calls.

    Raises:
        Fault: any other order, which chat templates would refuse or silently misread.
    """
    before = "start"
    follows: dict[str, tuple[str, ...]] = {
        "start": ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("tool", "assistant"),
    }
    for number, message in enumerate(messages):
        role = message["role"]
        if role not in follows[before]:
            raise Fault(
                f"turn {number + 1} is of role {role!r} after {before!r}: expected {' or '.join(follows[before])}"
            )
        before = role
    return messages


def read_history(value: Any) -> list[Message]:
    """Alpaca's `history`: earlier rounds as [question, answer]."""
    messages: list[Message] = []
    for number, round_ in enumerate(_rounds(value)):
        if not isinstance(round_, Sequence) or isinstance(round_, str) or len(round_) != 2:
            raise Fault(f"`history[{number}]` should be a pair of question and answer")
        question, answer = (as_text(text, f"history[{number}]") for text in round_)
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return messages


def _rounds(value: Any) -> Sequence[Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
        if value is None:
            raise Fault("`history` should be a list of rounds, is text")
    if not isinstance(value or [], Sequence):
        raise Fault(f"`history` should be a list of rounds, is {type(value).__name__}")
    return value or []


def is_transcript(value: Any) -> bool:
    """Whether this is a dialogue in one string."""
    return isinstance(value, str) and value.startswith(("\n\nHuman:", "Human:"))


def read_transcript(text: Any, column: str) -> tuple[Message, ...]:
    """A dialogue in one string, as in HH-RLHF: turns that begin with Human: and Assistant: after a blank line."""
    text = as_text(text, column)
    pieces = _TRANSCRIPT_TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
    if pieces[0].strip() or len(pieces) < 3:
        raise Fault(f'`{column}` is not a transcript of "\\n\\nHuman:" and "\\n\\nAssistant:" turns')
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return in_order(tuple(Message(role=roles[name], content=content.strip()) for name, content in turns))


def shared_turns(conversations: Sequence[tuple[Message, ...]]) -> int:
    """How many turns all of them begin with."""
    count = 0
    for turns in zip(*conversations, strict=False):
        if any((turn["role"], turn["content"]) != (turns[0]["role"], turns[0]["content"]) for turn in turns):
            break
        count += 1
    return count
