"""One function a row format: the row, nulls already stripped, into a `Record`. A bad row raises `Fault`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf.data.turns import (
    Fault,
    as_text,
    decoded,
    in_order,
    is_conversation,
    read_history,
    read_transcript,
    read_turn,
    read_turns,
    shared_turns,
)
from rlhf.types import Demonstration, LabelledCompletion, Message, Prompt, Ranking, SteppedCompletion

Row = Mapping[str, Any]
ASSISTANTS = ("assistant", "gpt", "model", "bot", "function_call")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one row can serve as."""

    prompt: Prompt | None = None
    demonstration: Demonstration | None = None
    ranking: Ranking | None = None
    labelled: LabelledCompletion | None = None
    stepwise: SteppedCompletion | None = None
    text: str | None = None


# --- language modelling and prompts ----------------------------------------------------------------------------------


def text(row_id: str, row: Row) -> Record:
    """`text`."""
    document = as_text(row["text"], "text")
    if not document.strip():
        raise Fault("`text` is empty")
    return Record(text=document, demonstration=Demonstration(id=row_id, text=document))


def prompt(row_id: str, row: Row) -> Record:
    """`prompt`, of text or turns."""
    return Record(prompt=_prompt(row_id, row, row["prompt"], ("prompt",)))


def prompt_messages(row_id: str, row: Row) -> Record:
    """`messages` that ask and hold no answer."""
    return Record(prompt=_prompt(row_id, row, row["messages"], ("messages",)))


# --- demonstrations --------------------------------------------------------------------------------------------------


def prompt_completion(row_id: str, row: Row) -> Record:
    """`prompt` and `completion`."""
    question = _prompt(row_id, row, row["prompt"], ("prompt", "completion"))
    return _demonstrated(question, _completion(row["completion"], "completion", question))


def messages(row_id: str, row: Row) -> Record:
    """`messages` with assistant turns."""
    turns = read_turns(row["messages"], "messages")
    return _conversation(row_id, row, turns, ("messages",))


def sharegpt(row_id: str, row: Row) -> Record:
    """`conversations` of from / value."""
    turns = _with_system(row, read_turns(row["conversations"], "conversations"))
    return _conversation(row_id, row, turns, ("conversations", "system"))


def alpaca(row_id: str, row: Row) -> Record:
    """`instruction`, `input` and `output`."""
    column = "output" if "output" in row else "response"
    question = _alpaca_prompt(row_id, row, (column,))
    return _demonstrated(question, _completion(row[column], column, question))


# --- rankings --------------------------------------------------------------------------------------------------------


def preference(row_id: str, row: Row) -> Record:
    """`prompt`, `chosen` and `rejected`."""
    column = "prompt" if "prompt" in row else "messages"
    if is_conversation(row["chosen"]) and len(decoded(row["chosen"])) > 1:
        # UltraFeedback and its like repeat the prompt inside both conversations.
        return conversation_preference(row_id, row, used=("chosen", "rejected", column))
    question = _prompt(row_id, row, row[column], (column, "chosen", "rejected"))
    return _ranked(question, [_completion(row[name], name, question) for name in ("chosen", "rejected")], row)


def conversation_preference(row_id: str, row: Row, used: Sequence[str] = ("chosen", "rejected")) -> Record:
    """`chosen` and `rejected` as whole conversations."""
    pair = [read_turns(row[name], name) for name in ("chosen", "rejected")]
    return _split_pair(row_id, row, pair, used)


def transcript_preference(row_id: str, row: Row) -> Record:
    """`chosen` and `rejected` as HH-RLHF transcripts."""
    pair = [read_transcript(row[name], name) for name in ("chosen", "rejected")]
    return _split_pair(row_id, row, pair, ("chosen", "rejected"))


def sharegpt_preference(row_id: str, row: Row) -> Record:
    """`conversations`, and `chosen` and `rejected` turns that continue them."""
    turns = _with_system(row, read_turns(row["conversations"], "conversations"))
    question = _chat_prompt(row_id, row, turns, ("conversations", "chosen", "rejected", "system"))
    return _ranked(question, [_completion(row[name], name, question) for name in ("chosen", "rejected")], row)


def alpaca_preference(row_id: str, row: Row) -> Record:
    """`instruction`, `input`, `chosen` and `rejected`."""
    question = _alpaca_prompt(row_id, row, ("chosen", "rejected"))
    return _ranked(question, [_completion(row[name], name, question) for name in ("chosen", "rejected")], row)


def alpaca_ranking(row_id: str, row: Row) -> Record:
    """`instruction`, `input` and the answers in `output`, best first."""
    question = _alpaca_prompt(row_id, row, ("output",))
    return _ranked(question, _completions(row["output"], "output", question), row)


def ranking(row_id: str, row: Row) -> Record:
    """`prompt` and `completions`, best first."""
    column = "prompt" if "prompt" in row else "messages"
    question = _prompt(row_id, row, row[column], (column, "completions"))
    return _ranked(question, _completions(row["completions"], "completions", question), row)


# --- labels ----------------------------------------------------------------------------------------------------------


def labelled(row_id: str, row: Row) -> Record:
    """A completion, or the last turn of `messages`, judged by `label`."""
    label = _label(row["label"])
    used = ("prompt", "messages", "completion", "label")
    if "completion" in row:
        column = "prompt" if "prompt" in row else "messages"
        question = _prompt(row_id, row, row[column], used)
        answer = _completion(row["completion"], "completion", question)
    else:
        turns = _until_assistant(read_turns(row["messages"], "messages"))
        question, answer = _chat_prompt(row_id, row, turns[:-1], used), turns[-1]["content"]
    record = _demonstrated(question, answer)
    return Record(
        prompt=question,
        demonstration=record.demonstration if label else None,
        labelled=LabelledCompletion(prompt=question, completion=answer, label=label),
    )


def stepwise(row_id: str, row: Row) -> Record:
    """`prompt`, the steps of one completion in `completions`, and for each whether it is right in `labels`."""
    column = "prompt" if "prompt" in row else "messages"
    question = _prompt(row_id, row, row[column], (column, "completions", "labels"))
    steps, labels = row["completions"], row["labels"]
    for name, value in (("completions", steps), ("labels", labels)):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise Fault(f"`{name}` should be a list with an entry for each step, is {value!r}")
    if len(steps) != len(labels):
        raise Fault(f"`completions` has {len(steps)} steps and `labels` {len(labels)}")
    texts = tuple(as_text(step, f"completions[{number}]") for number, step in enumerate(steps))
    blank = next((number for number, text in enumerate(texts) if not text.strip()), None)
    if blank is not None:
        raise Fault(f"`completions[{blank}]` is empty")
    judged = tuple(_label(value, f"labels[{number}]") for number, value in enumerate(labels))
    return Record(prompt=question, stepwise=SteppedCompletion(prompt=question, steps=texts, labels=judged))


def _label(value: Any, column: str = "label") -> bool:
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    key = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(key, bool | int | str) or key not in known:
        raise Fault(f"`{column}` should be true or false, is {value!r}")
    return known[key]


# --- the pieces ------------------------------------------------------------------------------------------------------


def _prompt(row_id: str, row: Row, value: Any, used: Sequence[str]) -> Prompt:
    """A prompt of text or turns."""
    value = decoded(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _chat_prompt(row_id, row, read_turns(value, used[0]), used)
    question = as_text(value, used[0])
    if not question.strip():
        raise Fault(f"`{used[0]}` is empty")
    return Prompt(id=row_id, text=question, reference=_reference(row), metadata=_metadata(row, used))


def _chat_prompt(row_id: str, row: Row, turns: tuple[Message, ...], used: Sequence[str]) -> Prompt:
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        raise Fault("the prompt does not end in a turn of the user" if turns else "there is no prompt")
    if not any(turn["content"].strip() for turn in turns if turn["role"] != "system"):
        raise Fault("the prompt is empty")
    # A weight speaks of a turn to train on; as context it has none.
    plain = tuple(Message(role=turn["role"], content=turn["content"]) for turn in turns)
    return Prompt(id=row_id, messages=plain, reference=_reference(row), metadata=_metadata(row, used))


def _metadata(row: Row, used: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in used and name != "reference"}


def _reference(row: Row) -> str | None:
    value = row.get("reference")
    return value if value is None or isinstance(value, str) else str(value)


def _completion(value: Any, column: str, question: Prompt) -> str:
    """One completion: text, a turn, or turns (the last; the others may repeat the prompt)."""
    value = decoded(value)
    if isinstance(value, Mapping):
        value = [value]
    if not is_conversation(value):
        answer = as_text(value, column)
    else:
        turns = [read_turn(turn, f"{column}[{number}]") for number, turn in enumerate(value)]
        if turns[-1]["role"] != "assistant" or len(turns) > 1:
            before = question.messages or ()
            expected = tuple((turn["role"], turn["content"]) for turn in before)
            if turns[-1]["role"] != "assistant" or tuple((t["role"], t["content"]) for t in turns[:-1]) != expected:
                raise Fault(f"`{column}` is not one assistant turn")
        answer = turns[-1]["content"]
    if not answer.strip():
        raise Fault(f"`{column}` is empty")
    return answer


def _completions(value: Any, column: str, question: Prompt) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Fault(f"`{column}` should be a list of completions, best first, is {type(value).__name__}")
    return [_completion(item, f"{column}[{number}]", question) for number, item in enumerate(value)]


def _demonstrated(question: Prompt, answer: str) -> Record:
    if question.messages is None:
        row = Demonstration(id=question.id, prompt=question.text, completion=answer)
    else:
        row = Demonstration(id=question.id, messages=(*question.messages, Message(role="assistant", content=answer)))
    return Record(prompt=question, demonstration=row)


def _conversation(row_id: str, row: Row, turns: tuple[Message, ...], used: Sequence[str]) -> Record:
    """A conversation to imitate; what the user said after the last answer is no part of it."""
    turns = _until_assistant(turns)
    if any(turn["role"] == "assistant" and not turn["content"].strip() for turn in turns):
        raise Fault("an assistant turn is empty")
    question = _chat_prompt(row_id, row, turns[:-1], used)
    return Record(prompt=question, demonstration=Demonstration(id=row_id, messages=turns))


def _until_assistant(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    while turns and turns[-1]["role"] != "assistant":
        turns = turns[:-1]
    if not turns:
        raise Fault("there is no assistant turn")
    return turns


def _with_system(row: Row, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    system = row.get("system")
    if not system:
        return turns
    return in_order((Message(role="system", content=as_text(system, "system")), *turns))


def _alpaca_prompt(row_id: str, row: Row, answers: Sequence[str]) -> Prompt:
    """Instruction and input as one user turn, after the system prompt and earlier rounds."""
    extra = "input" if "input" in row else "context"
    instruction = as_text(row["instruction"], "instruction")
    more = as_text(row.get(extra, ""), extra)
    asked = f"{instruction}\n\n{more}" if instruction.strip() and more.strip() else instruction or more
    turns = [*read_history(row.get("history")), Message(role="user", content=asked)]
    if not asked.strip():
        raise Fault("the prompt is empty")
    used = ("instruction", extra, "system", "history", *answers)
    return _chat_prompt(row_id, row, _with_system(row, in_order(tuple(turns))), used)


def _split_pair(row_id: str, row: Row, pair: Sequence[tuple[Message, ...]], used: Sequence[str]) -> Record:
    """Prompt and completions of conversations that part at their last turn."""
    shared = shared_turns(pair)
    if any(len(turns) == shared for turns in pair):
        raise Fault("chosen and rejected are equal, or one begins with the whole of the other")
    if any(len(turns) - shared != 1 or turns[-1]["role"] != "assistant" for turns in pair):
        raise Fault("chosen and rejected differ in more than their last assistant turn")
    question = _chat_prompt(row_id, row, pair[0][:shared], used)
    return _ranked(question, [_completion([turns[-1]], used[0], question) for turns in pair], row)


def _ranked(question: Prompt, completions: Sequence[str], row: Row) -> Record:
    if len(completions) < 2:
        raise Fault(f"a ranking needs two completions or more, has {len(completions)}")
    if len(set(completions)) < len(completions):
        raise Fault("two of the completions are equal")
    best = _demonstrated(question, completions[0])
    return replace(best, ranking=Ranking(prompt=question, completions=tuple(completions), margin=_margin(row)))


def _margin(row: Row) -> float:
    """By how much the chosen is better: `margin`, or the difference of `score_chosen` and `score_rejected`."""
    if "margin" in row:
        return _number(row["margin"], "margin")
    if "score_chosen" in row and "score_rejected" in row:
        return _number(row["score_chosen"], "score_chosen") - _number(row["score_rejected"], "score_rejected")
    return 0.0


def _number(value: Any, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Fault(f"`{column}` should be a finite number, is {value!r}")
    return number
