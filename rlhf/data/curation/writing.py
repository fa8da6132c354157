"""One function a row format: a `Record` into the row that `readers` would read it from.

What a format has no place for is a `Fault`, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf.data.readers import Record
from rlhf.data.turns import Fault
from rlhf.errors import DataError, nearest
from rlhf.types import Message, Prompt, Ranking

Row = dict[str, Any]


def write_record(name: str, record: Record) -> Row:
    """The record as a row of the format `name`, with the prompt's other columns. Raises `Fault`."""
    row = WRITERS[name](record)
    prompt = record.prompt
    if prompt is None:
        return row
    other = dict(prompt.metadata) | ({} if prompt.reference is None else {"reference": prompt.reference})
    clash = next((column for column in other if column in row), None)
    if clash is not None:
        raise Fault(f"it has a column `{clash}` of its own, which {name} needs for something else")
    return {**row, **other}


def require_writable(name: str) -> None:
    """Raise `DataError` for a format that does not exist."""
    if name not in WRITERS:
        raise DataError(
            f"--to: no data format is called {name!r}.{nearest(name, WRITERS)} Known: {', '.join(WRITERS)}."
        )


# --- prompts and texts -----------------------------------------------------------------------------------------------


def _text(record: Record) -> Row:
    if record.text is None:
        raise Fault("it is no document: format text holds plain texts")
    return {"text": record.text}


def _prompt(record: Record) -> Row:
    return {"prompt": _asked(_prompt_of(record))}


def _prompt_messages(record: Record) -> Row:
    turns = _turns(_as_messages(_prompt_of(record)))
    if any(turn["role"] == "assistant" for turn in turns):
        raise Fault("its prompt has answers in it, which would be read as a conversation to learn; convert --to prompt")
    return {"messages": turns}


# --- demonstrations --------------------------------------------------------------------------------------------------


def _prompt_completion(record: Record) -> Row:
    return {"prompt": _asked(_prompt_of(record)), "completion": _answer(record)}


def _messages(record: Record) -> Row:
    return {"messages": _turns(_conversation(record))}


def _sharegpt(record: Record) -> Row:
    return {"conversations": _from_value(_conversation(record))}


def _alpaca(record: Record) -> Row:
    return {**_instruction(_prompt_of(record)), "output": _answer(record)}


# --- rankings --------------------------------------------------------------------------------------------------------


def _preference(record: Record) -> Row:
    prompt, chosen, rejected, margin = _pair(record)
    return {"prompt": _asked(prompt), "chosen": chosen, "rejected": rejected, **margin}


def _conversation_preference(record: Record) -> Row:
    prompt, *sides, margin = _pair(record)
    asked = _as_messages(prompt)
    chosen, rejected = ([*_turns(asked), {"role": "assistant", "content": side}] for side in sides)
    return {"chosen": chosen, "rejected": rejected, **margin}


def _transcript_preference(record: Record) -> Row:
    prompt, *sides, margin = _pair(record)
    said = {"user": "Human", "assistant": "Assistant"}
    lines = []
    for turn in _as_messages(prompt):
        if turn["role"] not in said:
            raise Fault(f"it has a turn of role {turn['role']!r}: a transcript has Human and Assistant")
        lines.append(f"\n\n{said[turn['role']]}: {turn['content']}")
    chosen, rejected = ("".join(lines) + f"\n\nAssistant: {side}" for side in sides)
    return {"chosen": chosen, "rejected": rejected, **margin}


def _sharegpt_preference(record: Record) -> Row:
    prompt, *sides, margin = _pair(record)
    chosen, rejected = ({"from": "gpt", "value": side} for side in sides)
    return {"conversations": _from_value(_as_messages(prompt)), "chosen": chosen, "rejected": rejected, **margin}


def _alpaca_preference(record: Record) -> Row:
    prompt, chosen, rejected, margin = _pair(record)
    return {**_instruction(prompt), "chosen": chosen, "rejected": rejected, **margin}


def _ranking(record: Record) -> Row:
    ranking = _ranked(record)
    return {"prompt": _asked(ranking.prompt), "completions": list(ranking.completions), **_margin(ranking)}


def _alpaca_ranking(record: Record) -> Row:
    ranking = _ranked(record)
    return {**_instruction(ranking.prompt), "output": list(ranking.completions), **_margin(ranking)}


# --- labels ----------------------------------------------------------------------------------------------------------


def _labelled(record: Record) -> Row:
    judged = record.labelled
    if judged is None:
        raise Fault("it has no label")
    return {"prompt": _asked(judged.prompt), "completion": judged.completion, "label": judged.label}


def _stepwise(record: Record) -> Row:
    judged = record.stepwise
    if judged is None:
        raise Fault("its answer is not judged step by step")
    return {"prompt": _asked(judged.prompt), "completions": list(judged.steps), "labels": list(judged.labels)}


WRITERS: dict[str, Callable[[Record], Row]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "preference": _preference,
    "conversation_preference": _conversation_preference,
    "transcript_preference": _transcript_preference,
    "sharegpt_preference": _sharegpt_preference,
    "alpaca_preference": _alpaca_preference,
    "ranking": _ranking,
    "alpaca_ranking": _alpaca_ranking,
    "labelled": _labelled,
    "stepwise": _stepwise,
    "prompt": _prompt,
    "prompt_messages": _prompt_messages,
    "text": _text,
}


# --- the pieces ------------------------------------------------------------------------------------------------------


def _prompt_of(record: Record) -> Prompt:
    if record.prompt is None:
        raise Fault("it has no prompt")
    return record.prompt


def _asked(prompt: Prompt) -> str | list[Row]:
    """Text as text, turns as turns."""
    return _turns(prompt.messages) if prompt.messages is not None else prompt.text or ""


def _as_messages(prompt: Prompt) -> tuple[Message, ...]:
    """A plain text as one turn of the user."""
    return prompt.messages or (Message(role="user", content=prompt.text or ""),)


def _turns(messages: Sequence[Message]) -> list[Row]:
    return [dict(turn) for turn in messages]


def _from_value(messages: Sequence[Message]) -> list[Row]:
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    return [
        {"from": names[turn["role"]], "value": turn["content"]}
        | ({"weight": turn["weight"]} if "weight" in turn else {})
        for turn in messages
    ]


def _conversation(record: Record) -> tuple[Message, ...]:
    shown = record.demonstration
    if shown is not None and shown.messages is not None:
        return shown.messages
    return (*_as_messages(_prompt_of(record)), Message(role="assistant", content=_answer(record)))


def _answer(record: Record) -> str:
    shown = record.demonstration
    if shown is None or shown.text is not None:
        raise Fault("it shows no answer")
    if shown.messages is None:
        return shown.completion or ""
    if any("weight" in turn for turn in shown.messages):
        raise Fault("its turns have weights, which only messages and sharegpt hold")
    return shown.messages[-1]["content"]


def _instruction(prompt: Prompt) -> Row:
    """Alpaca's columns: a system prompt, rounds of question and answer before, and the instruction."""
    turns = list(_as_messages(prompt))
    row: Row = {}
    if turns[0]["role"] == "system":
        row["system"] = turns.pop(0)["content"]
    rounds, last = turns[:-1], turns[-1]
    if last["role"] != "user" or any(turn["role"] == "tool" for turn in rounds):
        raise Fault("it has turns of tools, which alpaca has no place for")
    if rounds:
        said = [turn["content"] for turn in rounds]
        row["history"] = [list(pair) for pair in zip(said[::2], said[1::2], strict=True)]
    return {"instruction": last["content"], **row}


def _ranked(record: Record) -> Ranking:
    if record.ranking is None:
        raise Fault("it is no comparison of answers")
    return record.ranking


def _pair(record: Record) -> tuple[Prompt, str, str, Mapping[str, float]]:
    ranking = _ranked(record)
    if len(ranking.completions) != 2:
        raise Fault(f"it ranks {len(ranking.completions)} answers: a preference is of two; convert --to ranking")
    return ranking.prompt, *ranking.completions, _margin(ranking)


def _margin(ranking: Ranking) -> Mapping[str, float]:
    known = {"margin", "score_chosen", "score_rejected"}
    has_own = known & ranking.prompt.metadata.keys()
    return {} if has_own or not ranking.margin else {"margin": ranking.margin}
