"""Examples in the prompt: what a model makes of a few demonstrations it is shown but not trained on.

The baseline without training (Brown et al. 2020, arXiv:2005.14165; as a rival of alignment URIAL, Lin et al. 2023,
arXiv:2312.01552): a comparison with it shows what training adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlhf.errors import DataError
from rlhf.types import Demonstration, Message, Prompt

BETWEEN = "\n\n"
"""What parts examples, and the last one from the question, in prompts of plain text."""


def with_examples(prompt: Prompt, examples: Sequence[Demonstration]) -> Prompt:
    """The prompt after these examples, in their order.

    A conversation gets them as turns, behind its own system message; a plain text as texts before it. Raises
    `DataError` for an example that cannot be shown so.
    """
    if not examples:
        return prompt
    if prompt.messages is None:
        shown = [_as_text(example) for example in examples]
        return replace(prompt, text=BETWEEN.join([*shown, prompt.text or ""]))
    opening = [message for message in prompt.messages[:1] if message["role"] == "system"]
    turns = [turn for example in examples for turn in _as_turns(example)]
    return replace(prompt, messages=(*opening, *turns, *prompt.messages[len(opening) :]))


def _as_turns(example: Demonstration) -> list[Message]:
    """Question and answer by turns; what the example's own system message says is left out."""
    if example.messages is not None:
        return [
            Message(role=message["role"], content=message["content"])
            for message in example.messages
            if message["role"] != "system"
        ]
    if example.prompt is None or example.completion is None:
        raise DataError(f"in_context: {example.id} is one text, but prompts are conversations; give prompt, completion")
    question = Message(role="user", content=example.prompt)
    return [question, Message(role="assistant", content=example.completion)]


def _as_text(example: Demonstration) -> str:
    if example.messages is not None:
        raise DataError(
            f"in_context: {example.id} is a conversation, but prompts are plain text; give prompt, completion"
        )
    return example.text if example.text is not None else (example.prompt or "") + (example.completion or "")
