"""The row formats: how each is recognised by its columns, and what it becomes.

Everything becomes a `Record`: prompts, demonstrations, rankings, completions judged whole or by step, texts, whichever
the row can serve. A preference row, for one, gives the first three. Columns no format uses travel in `Prompt.metadata`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.data import readers
from rlhf.data.readers import Record
from rlhf.data.turns import Fault, decoded, is_conversation, is_transcript
from rlhf.errors import DataError, nearest

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """A row format: the columns to show a user, a test of a row's columns and types, the reader, and the kinds of row
    that come of it.
    """

    name: str
    columns: str
    fits: Callable[[Row], bool]
    read: Callable[[str, Row], Record]
    serves: tuple[str, ...]


def _has(row: Row, *columns: str) -> bool:
    return all(column in row for column in columns)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _has_assistant(value: Any) -> bool:
    turns = decoded(value)
    return any(str(turn.get("role", turn.get("from"))).lower() in readers.ASSISTANTS for turn in turns)


def _text_or_turns(value: Any) -> bool:
    return isinstance(value, str) or is_conversation(value)


def _either(row: Row, *columns: str) -> bool:
    return any(column in row for column in columns)


_SHOWN = ("prompts", "demonstrations")
_RANKED = (*_SHOWN, "rankings")

# In the order they are tried: the more columns a format needs, the earlier it comes.
FORMATS: tuple[Format, ...] = (
    Format(
        "transcript_preference",
        'chosen, rejected: "\\n\\nHuman: ..\\n\\nAssistant: .." (HH-RLHF)',
        lambda row: (
            _has(row, "chosen", "rejected")
            and not _either(row, "prompt", "conversations", "messages", "instruction")
            and is_transcript(row["chosen"])
        ),
        readers.transcript_preference,
        _RANKED,
    ),
    Format(
        "sharegpt_preference",
        "conversations, chosen, rejected",
        lambda row: _has(row, "conversations", "chosen", "rejected"),
        readers.sharegpt_preference,
        _RANKED,
    ),
    Format(
        "alpaca_preference",
        "instruction, chosen, rejected [input, system, history]",
        lambda row: _has(row, "instruction", "chosen", "rejected"),
        readers.alpaca_preference,
        _RANKED,
    ),
    Format(
        "preference",
        "prompt | messages, chosen, rejected (text or turns)",
        lambda row: _has(row, "chosen", "rejected") and _either(row, "prompt", "messages"),
        readers.preference,
        _RANKED,
    ),
    Format(
        "conversation_preference",
        "chosen, rejected: whole conversations",
        lambda row: _has(row, "chosen", "rejected") and is_conversation(row["chosen"]),
        readers.conversation_preference,
        _RANKED,
    ),
    Format(
        "alpaca_ranking",
        "instruction, output: [best, .., worst] [input, system, history]",
        lambda row: _has(row, "instruction", "output") and _is_list(row["output"]),
        readers.alpaca_ranking,
        _RANKED,
    ),
    Format(
        "stepwise",
        "prompt | messages, completions: [step, ..], labels: [true | false, ..]",
        lambda row: (
            _has(row, "completions", "labels") and _either(row, "prompt", "messages") and _is_list(row["completions"])
        ),
        readers.stepwise,
        ("prompts", "stepwise"),
    ),
    Format(
        "ranking",
        "prompt | messages, completions: [best, .., worst]",
        lambda row: _has(row, "completions") and _either(row, "prompt", "messages") and _is_list(row["completions"]),
        readers.ranking,
        _RANKED,
    ),
    Format(
        "labelled",
        "prompt, completion, label | messages, label",
        lambda row: _has(row, "label") and (_has(row, "prompt", "completion") or is_conversation(row.get("messages"))),
        readers.labelled,
        (*_SHOWN, "labelled"),
    ),
    Format(
        "prompt_completion",
        "prompt, completion (text or turns)",
        lambda row: _has(row, "prompt", "completion"),
        readers.prompt_completion,
        _SHOWN,
    ),
    Format(
        "sharegpt",
        "conversations: [{from, value}] [system]",
        lambda row: is_conversation(row.get("conversations")),
        readers.sharegpt,
        _SHOWN,
    ),
    Format(
        "messages",
        "messages: [{role, content}] with an assistant turn",
        lambda row: is_conversation(row.get("messages")) and _has_assistant(row["messages"]),
        readers.messages,
        _SHOWN,
    ),
    Format(
        "alpaca",
        "instruction, output | response [input | context, system, history]",
        lambda row: _has(row, "instruction") and _either(row, "output", "response"),
        readers.alpaca,
        _SHOWN,
    ),
    Format(
        "prompt_messages",
        "messages: [{role, content}] without an assistant turn",
        lambda row: is_conversation(row.get("messages")),
        readers.prompt_messages,
        ("prompts",),
    ),
    Format(
        "prompt", "prompt (text or turns)", lambda row: _text_or_turns(row.get("prompt")), readers.prompt, ("prompts",)
    ),
    Format("text", "text", lambda row: isinstance(row.get("text"), str), readers.text, ("texts", "demonstrations")),
)


def find_format(name: str) -> Format:
    """The format of this name."""
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    raise DataError(f"no data format is called {name!r}.{nearest(name, names)} Known: {', '.join(names)}.")


def detect(row: Row, where: str) -> Format:
    """The first format whose columns and types the row has."""
    row = without_nulls(row)
    for known in FORMATS:
        if known.fits(row):
            return known
    table = "; ".join(f"{known.name} ({known.columns})" for known in FORMATS)
    raise DataError(
        f"{where}: no known format has the columns {', '.join(row)}. Rename them with `columns`, or name the `format`. "
        f"Known: {table}."
    )


def rename(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with `columns` applied: the format's name -> the file's name. Raises `Fault` where the row lacks one."""
    missing = next((theirs for theirs in columns.values() if theirs not in row), None)
    if missing is not None:
        raise Fault(f"no column {missing!r}.{nearest(missing, row)} Columns: {', '.join(row)}")
    taken = set(columns.values())
    kept = {name: value for name, value in row.items() if name not in taken and name not in columns}
    return kept | {ours: row[theirs] for ours, theirs in columns.items()}


def without_nulls(value: Any) -> Any:
    """Without keys whose value is None, at any depth: Arrow gives every row every key of any row."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def read_record(known: Format, row_id: str, row: Row) -> Record:
    """The row as this format reads it.

    Raises:
        Fault: what is wrong with the row.
    """
    try:
        return known.read(row_id, without_nulls(row))
    except KeyError as missing:
        name = missing.args[0]
        if name in row:
            raise Fault(f"`{name}` is null") from None
        raise Fault(f"no column `{name}`; format {known.name} has {known.columns}") from None
    except RecursionError:
        raise Fault("its values lie within one another too deeply") from None
