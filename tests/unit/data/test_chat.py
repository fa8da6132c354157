"""Which text of a conversation is trained: the assistant's, to the end of its turn, and no one else's."""

from __future__ import annotations

import pytest

from rlhf.data.chat import ChatRenderer, Rendered
from rlhf.data.spans import Span, mark, unmark
from rlhf.errors import DataError
from rlhf.types import Message
from tests.unit.data.builders import CHATML, byte_tokenizer, chat_tokenizer


def turns(*contents: str, system: str | None = None) -> list[Message]:
    roles = ["user", "assistant"] * len(contents)
    said = [Message(role=role, content=content) for role, content in zip(roles, contents, strict=False)]  # type: ignore[typeddict-item]
    return [Message(role="system", content=system), *said] if system is not None else said


def trained(rendered: Rendered) -> list[str]:
    return [rendered.text[turn.span.start : turn.span.end] for turn in rendered.turns]


def test_each_assistant_turn_with_its_end() -> None:
    rendered = ChatRenderer(chat_tokenizer()).conversation(turns("q", "a one", "r", "a two", system="s"))
    assert trained(rendered) == ["a one<|im_end|>", "a two<|im_end|>"]
    assert rendered.text.endswith("a two<|im_end|>")
    assert [rendered.text[span.start : span.end] for span in rendered.contents] == ["s", "q", "a one", "r", "a two"]


def test_contents_that_repeat_the_template_are_told_apart() -> None:
    rendered = ChatRenderer(chat_tokenizer()).conversation(turns("user", "assistant", "assistant", "user"))
    assert trained(rendered) == ["assistant<|im_end|>", "user<|im_end|>"]
    assert rendered.turns[0].span.start == len("<|im_start|>user\nuser<|im_end|>\n<|im_start|>assistant\n")


def test_weights_choose_and_weigh_turns() -> None:
    messages = turns("q", "a one", "r", "a two", "t", "a three")
    messages[1]["weight"] = 0.0
    messages[3]["weight"] = 0.25
    rendered = ChatRenderer(chat_tokenizer()).conversation(messages)
    assert trained(rendered) == ["a two<|im_end|>", "a three<|im_end|>"]
    assert [turn.weight for turn in rendered.turns] == [0.25, 1.0]


def test_the_prompt_is_where_the_last_turn_begins() -> None:
    renderer = ChatRenderer(chat_tokenizer())
    messages = turns("q", "a", "r", "b")
    whole = renderer.conversation(messages)
    assert whole.text[: whole.turns[-1].span.start] == renderer.prompt(messages[:-1]).text


def test_whitespace_around_contents_is_what_the_template_makes_of_it() -> None:
    assert trained(ChatRenderer(chat_tokenizer()).conversation(turns("q", " a \n"))) == [" a \n<|im_end|>"]
    trims = byte_tokenizer(CHATML.replace("message['content']", "message['content'] | trim"), eos_token="<|im_end|>")
    assert trained(ChatRenderer(trims).conversation(turns("q", " a \n"))) == ["a<|im_end|>"]


def test_a_template_that_ends_turns_only_between_turns_ends_the_last_as_well() -> None:
    template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% if not loop.last %}{{ '<|eot|>' }}"
    )
    template += "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|eot|><|assistant|>' }}{% endif %}"
    rendered = ChatRenderer(byte_tokenizer(template)).conversation(turns("q", "a"))
    assert trained(rendered) == ["a<|eot|>"]
    assert rendered.turns[0].ended


def test_a_template_without_an_end_leaves_it_to_eos() -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    rendered = ChatRenderer(byte_tokenizer(template, eos_token="<|eos|>")).conversation(turns("q", "a", "r", "b"))
    assert trained(rendered) == ["a", "b"]
    assert [turn.ended for turn in rendered.turns] == [False, False]
    assert rendered.text == "user: q\nassistant: a\nuser: r\nassistant: b"


STRIPS_THINKING = CHATML.replace(
    "message['content']", "(message['content'].split('</think>')[-1] if not loop.last else message['content'])"
)
DROPS_THINKING = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")


def test_thinking_that_the_template_drops_from_earlier_turns_is_refused_there() -> None:
    renderer = ChatRenderer(byte_tokenizer(STRIPS_THINKING, eos_token="<|im_end|>"))
    messages = turns("q", "<think>x</think>a", "r", "<think>y</think>b")
    with pytest.raises(DataError, match=r"leaves out part of turn 2 .* Set turns: each"):
        renderer.conversation(messages)
    messages[1]["weight"] = 0.0
    assert trained(renderer.conversation(messages)) == ["<think>y</think>b<|im_end|>"]


def test_thinking_that_the_template_always_drops_is_trained_in_the_last_turn() -> None:
    renderer = ChatRenderer(byte_tokenizer(DROPS_THINKING, eos_token="<|im_end|>"))
    rendered = renderer.conversation(turns("q", "<think>x</think>a"))
    assert trained(rendered) == ["<think>x</think>a<|im_end|>"]
    assert rendered.text.startswith(renderer.prompt(turns("q")).text)


def test_thinking_opened_by_the_generation_prompt_is_not_opened_twice() -> None:
    opens = DROPS_THINKING.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
    renderer = ChatRenderer(byte_tokenizer(opens, eos_token="<|im_end|>"))
    rendered = renderer.conversation(turns("q", "<think>\nx\n</think>\na"))
    assert rendered.text == renderer.prompt(turns("q")).text + "x\n</think>\na<|im_end|>"
    assert trained(rendered) == ["x\n</think>\na<|im_end|>"]


def test_a_last_turn_always_follows_its_prompt() -> None:
    """Some templates put the system prompt before the last user turn only while that is the last of all."""
    template = (
        "{% set rest = messages[1:] %}{% for m in rest %}{% if m['role'] == 'user' %}{{ '[INST]' }}"
        "{% if loop.last %}{{ messages[0]['content'] + '\n' }}{% endif %}{{ m['content'] + '[/INST]' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    renderer = ChatRenderer(byte_tokenizer(template, eos_token="<|eos|>"))
    rendered = renderer.conversation(turns("q", "a", system="s"))
    assert rendered.text == "[INST]s\nq[/INST]a<|eos|>"
    assert trained(rendered) == ["a<|eos|>"]


def test_templates_may_ask_how_a_content_begins() -> None:
    asks = CHATML.replace(
        "message['content'] +", "('!' if message['content'].startswith('x') else message['content']) +"
    )
    rendered = ChatRenderer(byte_tokenizer(asks, eos_token="<|im_end|>")).conversation(turns("q", "a"))
    assert trained(rendered) == ["a<|im_end|>"]
    hidden = ChatRenderer(byte_tokenizer(asks, eos_token="<|im_end|>")).conversation(turns("xq", "a"))
    assert hidden.text == "<|im_start|>user\n!<|im_end|>\n<|im_start|>assistant\na<|im_end|>"


def test_what_is_left_of_a_content_is_found_by_its_end() -> None:
    messages = turns("<think>x</think>kept")
    closing = mark(messages)[0]["content"].split("</think>")[1]
    found = unmark(f"head {closing} tail", messages)
    assert (found.text, found.of(0)) == ("head kept tail", Span(5, 9))


def test_a_template_that_refuses_says_so_in_one_line() -> None:
    template = "{{ raise_exception('roles must alternate') if messages[0]['role'] == 'system' else 'x' }}"
    with pytest.raises(DataError) as raised:
        ChatRenderer(byte_tokenizer(template)).prompt(turns("q", system="s"))
    assert str(raised.value) == "the chat template refuses a conversation of roles system, user: roles must alternate"


def test_errors_of_use() -> None:
    with pytest.raises(DataError, match="has no chat template"):
        ChatRenderer(byte_tokenizer(None))
    with pytest.raises(DataError, match="ends in an assistant turn"):
        ChatRenderer(chat_tokenizer()).conversation(turns("q"))
    with pytest.raises(DataError, match="U\\+FDD0"):
        ChatRenderer(chat_tokenizer()).conversation(turns("q\ufdd0", "a"))


def test_variables_reach_the_template() -> None:
    template = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n' + opening }}")
    renderer = ChatRenderer(byte_tokenizer(template, eos_token="<|im_end|>"), opening="<no thinking>")
    assert renderer.prompt(turns("q")).text.endswith("assistant\n<no thinking>")
