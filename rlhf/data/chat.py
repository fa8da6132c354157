"""Chat templates: the text of a conversation, and which of it the model is to say.

A template is an opaque program, so where a message's content ends up is found by running it: contents are rendered
between two Unicode noncharacters, which are then taken out again. That the rest of the text is the same as without
them is checked. Two things follow: which characters each assistant turn may be trained on, and which characters are
content, in which nothing is a control token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlhf.data.render_time import RenderLimit, RenderTimeout
from rlhf.data.spans import Marked, Span, mark, unmark
from rlhf.errors import DataError
from rlhf.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LIMIT = RenderLimit(seconds=20)
_OPENING_TAG = re.compile(r"<[^<>\s]+>\s*")
_PROBE: tuple[Message, ...] = (
    Message(role="user", content="a"),
    Message(role="assistant", content="b"),
    Message(role="user", content="c"),
)


@dataclass(frozen=True)
class Turn:
    """An assistant turn in a rendered conversation: what is trained, and with what weight."""

    span: Span
    weight: float
    ended: bool
    """Whether the span ends in a control token that ends the turn; where not, the tokenizer's EOS stands in."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, up to the end of its last trained turn."""

    text: str
    turns: tuple[Turn, ...]
    contents: tuple[Span, ...]
    """Where contents of messages stand: never control tokens, whatever they spell."""


class ChatRenderer:
    """Renders conversations with the tokenizer's own chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, **variables: Any) -> None:
        """`variables` reach the template (`enable_thinking=False`)."""
        if tokenizer.chat_template is None:
            raise DataError("the tokenizer has no chat template: use a chat model, or rows of plain text.")
        self._tokenizer = tokenizer
        self._variables = variables
        self._controls = control_tokens(tokenizer)
        self.end_of_turn = self._find_end_of_turn()
        """What follows an assistant's content up to the first control token; "" where the template has no such end."""

    def prompt(self, messages: Sequence[Message]) -> Rendered:
        """The text a policy continues: the conversation and the generation prompt."""
        marked = self._render(messages, generation_prompt=True)
        return Rendered(text=marked.text, turns=(), contents=marked.spans)

    def conversation(self, messages: Sequence[Message]) -> Rendered:
        """The text to learn from, with the span of each assistant turn that has weight.

        The last turn always follows the text of `prompt(messages[:-1])`, which is what the policy will be given;
        templates that render a finished conversation otherwise are overruled there.

        Raises:
            DataError: the template refuses the conversation, or leaves out part of a turn that is to be trained.
        """
        if not messages or messages[-1]["role"] != "assistant":
            raise DataError("a conversation to learn from ends in an assistant turn.")
        whole = self._render(messages, generation_prompt=False)
        last = len(messages) - 1
        prompts = {i: self._prefix(messages, i, whole) for i, m in enumerate(messages) if _weight(m) > 0 or i == last}
        turns = [self._inner_turn(messages, i, whole, start) for i, start in prompts.items() if i != last]
        start = prompts[last]
        if start is None or not self._says(whole, messages, last, start):
            return self._continued(messages, whole, turns)
        span, ended = self._until_end_of_turn(whole, last, start)
        end = "" if ended else self.end_of_turn
        contents = tuple(content for content in whole.spans if content.end <= span.end)
        turns += [Turn(Span(start, span.end + len(end)), _weight(messages[last]), ended or bool(end))]
        return Rendered(text=whole.text[: span.end] + end, turns=_trained(turns), contents=contents)

    def _find_end_of_turn(self) -> str:
        """How the template ends an assistant turn that another turn follows: some leave the end out of a last turn."""
        try:
            whole = self._render(_PROBE, generation_prompt=False)
        except DataError:
            return ""
        content = whole.of(1)
        if content is None:
            return ""
        span, ended = self._until_end_of_turn(whole, 1, content.start)
        return whole.text[content.end : span.end] if ended else ""

    def _render(self, messages: Sequence[Message], generation_prompt: bool) -> Marked:
        """The conversation's text and where each message's content stands in it."""
        marked = unmark(self._apply(mark(messages), generation_prompt), messages)
        if marked.text != self._plain(messages, generation_prompt):
            raise DataError("the chat template treats contents by what they spell: where they end up is not known.")
        return marked

    def _plain(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        return self._apply([{"role": m["role"], "content": m["content"]} for m in messages], generation_prompt)

    def _apply(self, messages: list[dict[str, str]], generation_prompt: bool) -> str:
        try:
            with _LIMIT():
                text = self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=generation_prompt, **self._variables
                )
        except RenderTimeout:
            raise DataError(
                f"the model's chat template was still at work on one conversation after {_LIMIT.seconds:g} s, and may "
                "loop for ever: give the model another template"
            ) from None
        except Exception as error:  # noqa: BLE001 - a template is a stranger's program
            roles = ", ".join(message["role"] for message in messages)
            raise DataError(f"the chat template refuses a conversation of roles {roles}: {error}") from None
        return str(text)

    def _prefix(self, messages: Sequence[Message], index: int, whole: Marked) -> int | None:
        """Length of the prompt of turn `index` where the whole text begins with it, else None."""
        prompt = self._plain(messages[:index], generation_prompt=True)
        content = whole.of(index)
        fits = whole.text.startswith(prompt) and (content is None or len(prompt) <= content.start)
        return len(prompt) if fits else None

    def _says(self, whole: Marked, messages: Sequence[Message], index: int, start: int) -> bool:
        """Whether the text from `start` on holds all of the turn's content, whitespace aside."""
        content = whole.of(index)
        return content is not None and _squashed(whole.text[start : content.end]).endswith(
            _squashed(messages[index]["content"])
        )

    def _inner_turn(self, messages: Sequence[Message], index: int, whole: Marked, start: int | None) -> Turn:
        """A turn other than the last: as the template renders it in the middle of a conversation."""
        content = whole.of(index)
        if start is None and content is not None:
            start = content.start
        if content is None or start is None or not self._says(whole, messages, index, start):
            raise DataError(
                f"the chat template leaves out part of turn {index + 1} (assistant) once others follow (thinking, most "
                f"likely), so it cannot be trained there. Set turns: each, or turns: last."
            )
        span, ended = self._until_end_of_turn(whole, index, start)
        return Turn(span, _weight(messages[index]), ended)

    def _until_end_of_turn(self, whole: Marked, index: int, start: int) -> tuple[Span, bool]:
        """The turn's span from `start` to behind its first control token, which is what generation stops at."""
        content = whole.of(index)
        assert content is not None
        after = whole.text[content.end : whole.next_start(content.end)]
        marker = self._controls.search(after) if self._controls else None
        if marker is None:
            return Span(start, content.end), False
        return Span(start, content.end + marker.end()), True

    def _continued(self, messages: Sequence[Message], whole: Marked, turns: list[Turn]) -> Rendered:
        """Prompt + last turn, where the whole text does not begin with the prompt or drops part of the turn."""
        if any(turn.weight > 0 for turn in turns):
            turns = self._turns_within(messages)
        last = len(messages) - 1
        prompt = self._render(messages[:-1], generation_prompt=True)
        content, said = whole.of(last), messages[last]["content"]
        end = self.end_of_turn
        if content is not None:
            span, ended = self._until_end_of_turn(whole, last, content.start)
            end = whole.text[content.end : span.end] if ended else end
            if self._says(whole, messages, last, content.start):
                said = whole.text[content.start : content.end]
        opening = _OPENING_TAG.match(said)
        if opening and prompt.text.rstrip().endswith(opening.group().rstrip()):
            said = said[opening.end() :]
        start = len(prompt.text)
        spoken = Span(start, start + len(said))
        turn = Turn(Span(start, spoken.end + len(end)), _weight(messages[last]), bool(end))
        return Rendered(prompt.text + said + end, _trained([*turns, turn]), (*prompt.spans, spoken))

    def _turns_within(self, messages: Sequence[Message]) -> list[Turn]:
        """The earlier turns with weight, found in the prompt of the last one."""
        prompt = self._render(messages[:-1], generation_prompt=True)
        turns = []
        for index, message in enumerate(messages[:-1]):
            if _weight(message) > 0:
                start = self._prefix(messages, index, prompt)
                turns.append(self._inner_turn(messages, index, prompt, start))
        return turns


def without_weights(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with no assistant turn trained, for use as context."""
    return tuple({**message, "weight": 0.0} for message in messages)


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """A pattern of the tokenizer's special tokens other than BOS, longest first; None where there are none."""
    names = special_tokens(tokenizer)
    if tokenizer.bos_token != tokenizer.eos_token:
        names = names - {tokenizer.bos_token}
    return _any_of(names)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The tokenizer's control tokens as text: BOS, EOS, padding, turn markers."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | set(tokenizer.all_special_tokens)


def _any_of(names: set[str]) -> re.Pattern[str] | None:
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _weight(message: Message) -> float:
    return float(message.get("weight", 1.0)) if message["role"] == "assistant" else 0.0


def _trained(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns if turn.weight > 0)


def _squashed(text: str) -> str:
    return "".join(text.split())
