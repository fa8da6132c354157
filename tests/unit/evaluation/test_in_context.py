"""Examples before a prompt: as turns in a conversation, as text in a text; and which rows can be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.data.examples import read_examples
from rlhf.errors import DataError
from rlhf.evaluation.in_context import with_examples
from rlhf.types import Demonstration, Message, Prompt

PAIR = Demonstration(id="e0", prompt="2 + 2 =", completion=" 4")
CHAT = Demonstration(
    id="e1",
    messages=(
        Message(role="system", content="be wise"),
        Message(role="user", content="q"),
        Message(role="assistant", content="a", weight=0.5),
    ),
)
TEXT = Demonstration(id="e2", text="Water is wet.")


def said(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in prompt.messages or ()]


def test_a_conversation_gets_examples_as_turns_behind_its_system_message() -> None:
    asked = (Message(role="system", content="s"), Message(role="user", content="now"))
    shown = with_examples(Prompt(id="p", messages=asked, metadata={"axis": "honest"}), [PAIR, CHAT])
    assert said(shown) == [
        ("system", "s"),
        ("user", "2 + 2 ="),
        ("assistant", " 4"),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "now"),
    ]
    assert (shown.id, shown.metadata, shown.last_user_text) == ("p", {"axis": "honest"}, "now")
    without_system = with_examples(Prompt(id="p", messages=asked[1:]), [PAIR])
    assert said(without_system) == [("user", "2 + 2 ="), ("assistant", " 4"), ("user", "now")]


def test_a_text_gets_examples_as_texts() -> None:
    shown = with_examples(Prompt(id="p", text="3 + 3 ="), [TEXT, PAIR])
    assert shown.text == "Water is wet.\n\n2 + 2 = 4\n\n3 + 3 ="
    assert shown.messages is None


def test_no_examples_are_no_change() -> None:
    prompt = Prompt(id="p", text="x")
    assert with_examples(prompt, []) is prompt


def test_examples_that_cannot_be_shown_are_refused() -> None:
    with pytest.raises(DataError, match="e1 is a conversation, but prompts are plain text"):
        with_examples(Prompt(id="p", text="x"), [CHAT])
    with pytest.raises(DataError, match="e2 is one text, but prompts are conversations"):
        with_examples(Prompt(id="p", messages=(Message(role="user", content="x"),)), [TEXT])


def test_examples_are_read_in_their_order_from_a_file_or_the_recipe(tmp_path: Path) -> None:
    lines = [f'{{"prompt": "q{n}", "completion": "a{n}"}}' for n in range(12)]
    (tmp_path / "examples.jsonl").write_text("\n".join(lines) + "\n")
    read = read_examples(str(tmp_path / "examples.jsonl"))
    assert [row.prompt for row in read] == [f"q{n}" for n in range(12)]
    rows = [{"prompt": "q", "completion": "a"}, {"messages": list(CHAT.messages or ())}, {"text": "t"}]
    assert [(row.prompt, row.text) for row in read_examples(rows)] == [("q", None), (None, None), (None, "t")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q"}, r"in_context\[0\]: a prompt row shows no answer"),
        ({"prompt": "q", "completion": 3}, r"in_context\[0\]: .*completion.*Mend the row"),
        ({"colour": "red"}, r"in_context\[0\]: no known format has the columns colour"),
    ],
)
def test_rows_that_are_no_demonstrations_are_refused(row: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_examples([row])
