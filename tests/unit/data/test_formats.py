"""Each row format is told by its columns, and becomes prompts, demonstrations, rankings, labels or texts."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.data.formats import FORMATS, detect, find_format, read_record, rename
from rlhf.data.readers import Record
from rlhf.data.turns import Fault
from rlhf.errors import DataError


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ROWS: dict[str, dict[str, Any]] = {
    "text": {"text": "once"},
    "prompt": {"prompt": "q", "reference": 4, "level": "easy"},
    "prompt_messages": {"messages": [user("q")]},
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "messages": {"messages": [user("q"), assistant("a"), user("r"), assistant("b")]},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": "{}"},
            {"from": "observation", "value": "7"},
            {"from": "gpt", "value": "a"},
        ],
        "system": "s",
    },
    "alpaca": {"instruction": "do", "input": "this", "output": "a", "history": [["h1", "h2"]]},
    "preference": {"prompt": "q", "chosen": "good", "rejected": "bad", "margin": 2},
    "conversation_preference": {
        "chosen": [user("q"), assistant("good")],
        "rejected": [user("q"), assistant("bad")],
    },
    "transcript_preference": {
        "chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: good",
        "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: bad",
    },
    "sharegpt_preference": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "alpaca_preference": {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    "alpaca_ranking": {"instruction": "q", "input": "", "output": ["good", "fair", "bad"]},
    "ranking": {"prompt": [user("q")], "completions": ["good", "fair", "bad"]},
    "labelled": {"prompt": "q", "completion": "a", "label": True},
    "stepwise": {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]},
}


def read(row: dict[str, Any], name: str | None = None) -> Record:
    known = find_format(name) if name else detect(row, "here")
    return read_record(known, "f:1", row)


def test_the_table_above_has_every_format() -> None:
    assert set(ROWS) == {known.name for known in FORMATS}


@pytest.mark.parametrize("name", ROWS)
def test_detected_and_read(name: str) -> None:
    assert detect(ROWS[name], "here").name == name
    kinds = {field for field, value in vars(read(ROWS[name])).items() if value is not None}
    names = {"text": "texts", "prompt": "prompts", "demonstration": "demonstrations", "ranking": "rankings"}
    assert {names.get(kind, kind) for kind in kinds} == set(find_format(name).serves)


@pytest.mark.parametrize("name", [name for name in ROWS if "preference" in name])
def test_pairs_are_ranked_best_first_and_demonstrate_the_best(name: str) -> None:
    record = read(ROWS[name])
    assert record.ranking is not None
    assert record.ranking.completions == ("good", "bad")
    assert record.ranking.prompt == record.prompt
    assert record.demonstration is not None
    shown = record.demonstration.completion or record.demonstration.messages[-1]["content"]  # type: ignore[index]
    assert shown == "good"


def test_details_of_each_kind() -> None:
    prompt = read(ROWS["prompt"]).prompt
    assert prompt is not None
    assert (prompt.id, prompt.text, prompt.reference, prompt.metadata) == ("f:1", "q", "4", {"level": "easy"})
    assert read(ROWS["ranking"]).ranking.completions == ("good", "fair", "bad")  # type: ignore[union-attr]
    assert read(ROWS["preference"]).ranking.margin == 2.0  # type: ignore[union-attr]
    sharegpt = read(ROWS["sharegpt"]).demonstration
    assert [m["role"] for m in sharegpt.messages] == ["system", "user", "assistant", "tool", "assistant"]  # type: ignore[union-attr]
    alpaca = read(ROWS["alpaca"]).prompt
    assert [m["content"] for m in alpaca.messages] == ["h1", "h2", "do\n\nthis"]  # type: ignore[union-attr]
    transcript = read(ROWS["transcript_preference"]).prompt
    assert [m["content"] for m in transcript.messages] == ["q", "a", "r"]  # type: ignore[union-attr]
    bad = read({**ROWS["labelled"], "label": False})
    assert bad.demonstration is None
    assert bad.labelled is not None
    assert not bad.labelled.label


def test_score_columns_give_the_margin() -> None:
    row = {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 8.5, "score_rejected": "6"}
    assert read(row).ranking.margin == 2.5  # type: ignore[union-attr]


def test_a_text_prompt_beside_whole_conversations_is_not_repeated() -> None:
    row = {"prompt": "q", "chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]}
    record = read(row)
    assert [m["content"] for m in record.prompt.messages] == ["q"]  # type: ignore[union-attr]
    assert record.ranking.completions == ("good", "bad")  # type: ignore[union-attr]
    assert record.prompt.metadata == {}  # type: ignore[union-attr]


def test_keys_that_arrow_filled_with_none_are_ignored() -> None:
    turn = {"role": "user", "content": "q", "weight": None, "tool_calls": None}
    row = {"messages": [turn, {**turn, "role": "assistant", "content": "a"}], "chosen": None, "rejected": None}
    assert detect(row, "here").name == "messages"
    record = read(row)
    assert record.demonstration.messages == (user("q"), assistant("a"))  # type: ignore[union-attr]
    assert record.prompt.metadata == {}  # type: ignore[union-attr]


def test_weights_and_text_parts_of_turns() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}], "loss_weight": 0},
        {"role": "assistant", "content": "c", "weight": 0.5},
    ]
    shown = read({"messages": turns}).demonstration
    assert shown.messages[0]["content"] == "ab"  # type: ignore[union-attr,index]
    assert shown.messages[1]["weight"] == 0.5  # type: ignore[union-attr,index]


def test_lists_in_a_csv_cell_are_decoded() -> None:
    row = {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'}
    assert read(row).demonstration.messages == (user("q"), assistant("a"))  # type: ignore[union-attr]


def test_a_completion_of_turns_may_repeat_its_prompt_and_nothing_else() -> None:
    row = {"prompt": [user("q")], "completion": [user("q"), assistant("a")]}
    assert read(row).demonstration.messages == (user("q"), assistant("a"))  # type: ignore[union-attr]
    with pytest.raises(Fault, match="`completion` is not one assistant turn"):
        read({**row, "completion": [user("r"), assistant("a")]})


def test_answers_that_are_json_stay_text() -> None:
    calls = '[{"name": "f", "arguments": {"x": 1}}]'
    assert read({"prompt": "q", "completion": calls}).demonstration.completion == calls  # type: ignore[union-attr]
    assert read({"prompt": calls, "completion": "a"}).prompt.text == calls  # type: ignore[union-attr]
    assert detect({"instruction": "q", "output": '["a", "b"]'}, "here").name == "alpaca"
    history = read({"instruction": "q", "output": "a", "history": '[["h1", "h2"]]'}).prompt
    assert len(history.messages) == 3  # type: ignore[union-attr,arg-type]


def test_a_conversation_ends_with_its_last_answer() -> None:
    row = {"messages": [user("q"), assistant("a"), user("thanks")]}
    assert read(row).demonstration.messages == (user("q"), assistant("a"))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("row", "name", "fault"),
    [
        ({"prompt": None, "completion": "a"}, "prompt_completion", "`prompt` is null"),
        ({"prompt": "q"}, "prompt_completion", "no column `completion`"),
        ({"prompt": 3, "completion": "a"}, "prompt_completion", "`prompt` should be text, is int"),
        ({"prompt": " ", "completion": "a"}, "prompt_completion", "`prompt` is empty"),
        ({"prompt": "q", "completion": ""}, "prompt_completion", "`completion` is empty"),
        ({"text": " "}, "text", "`text` is empty"),
        ({"messages": [user("q")]}, "messages", "no assistant turn"),
        ({"messages": [assistant("a")]}, "messages", "turn 1 is of role 'assistant' after 'start'"),
        ({"messages": [user("q"), user("r"), assistant("a")]}, "messages", "turn 2 is of role 'user' after 'user'"),
        ({"messages": [user("q"), {"role": "sys", "content": ""}]}, "messages", "unknown role 'sys'"),
        ({"messages": [user("q"), {"role": "assistant"}]}, "messages", "`messages[1].content` is null"),
        ({"messages": [user("q"), {**assistant("a"), "weight": -1}]}, "messages", "weight -1"),
        ({"messages": [user(""), assistant("a")]}, "messages", "the prompt is empty"),
        ({"messages": [user("q"), assistant(" ")]}, "messages", "an assistant turn is empty"),
        ({"messages": [user("q"), {"role": "assistant", "content": [{"type": "image"}]}]}, "messages", "'image'"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "preference", "two of the completions are equal"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "preference", "`rejected` is null"),
        ({"prompt": "q", "completions": ["a"]}, "ranking", "two completions or more, has 1"),
        ({"prompt": "q", "completion": "a", "label": "maybe"}, "labelled", "`label` should be true or false"),
        ({"chosen": "no turns", "rejected": "at all"}, "transcript_preference", "is not a transcript"),
        (
            {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("a")]},
            "conversation_preference",
            "chosen and rejected are equal",
        ),
        (
            {"chosen": [user("q"), assistant("a")], "rejected": [user("r"), assistant("a")]},
            "conversation_preference",
            "differ in more than their last assistant turn",
        ),
        ({"instruction": "q", "output": "a", "history": "earlier"}, "alpaca", "`history` should be a list of rounds"),
        ({"instruction": "q", "output": "a", "history": 3}, "alpaca", "`history` should be a list of rounds"),
        ({"instruction": "q", "output": "a", "history": [["only"]]}, "alpaca", "`history[0]` should be a pair"),
    ],
)
def test_faults_of_rows(row: dict[str, Any], name: str, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        read(row, name)
    assert fault in str(raised.value)


def test_unknown_columns_show_what_there_is_and_what_is_known() -> None:
    with pytest.raises(DataError) as raised:
        detect({"frage": "q", "antwort": "a"}, "f.jsonl, row 1")
    message = str(raised.value)
    assert "f.jsonl, row 1: no known format has the columns frage, antwort" in message
    assert all(known.name in message and known.columns in message for known in FORMATS)
    assert "\n" not in message


def test_renaming() -> None:
    row = {"question": "q", "answer": "a", "prompt": "not this one", "level": 1}
    renamed = rename(row, {"prompt": "question", "reference": "answer"})
    assert renamed == {"prompt": "q", "reference": "a", "level": 1}
    with pytest.raises(Fault, match=r"no column 'quesion'\. Did you mean 'question'\?"):
        rename(row, {"prompt": "quesion"})


def test_a_format_of_unknown_name_suggests_one() -> None:
    with pytest.raises(DataError, match="Did you mean 'sharegpt'"):
        find_format("share_gpt")
