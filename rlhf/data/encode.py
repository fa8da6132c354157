"""Text types to token rows: chat templates applied, masks set, lengths kept. What is dropped or cut is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from rlhf.data.chat import ChatRenderer, Rendered, Turn, control_tokens, special_tokens, without_weights
from rlhf.data.rows import (
    LabelledRow,
    RankedRows,
    StepRow,
    TokenRow,
    labelled_batch,
    preference_batch,
    rollout_batch,
    step_batch,
    token_batch,
    weighted,
)
from rlhf.data.spans import Span
from rlhf.data.steps import step_ends
from rlhf.data.tokenizers import sentinel_ids
from rlhf.data.tokens import TextTokenizer, token_id
from rlhf.errors import DataError
from rlhf.types import (
    Demonstration,
    LabelledBatch,
    LabelledCompletion,
    Message,
    Metrics,
    PreferenceBatch,
    Prompt,
    Ranking,
    Rollout,
    StepBatch,
    SteppedCompletion,
    TokenBatch,
    Vocabulary,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Overlong = Literal["drop", "cut", "error"]


class Encoder:
    """Makes token rows of at most `max_length` tokens, and batches of rows.

    `overlong` says what becomes of a longer row: `drop` it; `cut` it, which ends a conversation after the last
    assistant turn that fits, or else shortens the prompt from its left, and never loses the end of a turn that is
    kept; or `error`. `dropped` and `cut` count the rows.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        overlong: Overlong = "drop",
        max_prompt_length: int | None = None,
        **template_variables: Any,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_length - 1 if max_prompt_length is None else max_prompt_length
        self.overlong = overlong
        self.dropped = 0
        self.cut = 0
        self._text = TextTokenizer(tokenizer)
        self._chat = ChatRenderer(tokenizer, **template_variables) if tokenizer.chat_template else None
        self._bos = _bos_of_plain_text(tokenizer)
        self._special_ids = frozenset(token_id(tokenizer, name) for name in special_tokens(tokenizer))

    # --- one row -------------------------------------------------------------------------------------------------

    def encode_prompt(self, prompt: Prompt) -> Prompt | None:
        """The prompt with its `token_ids`, which end in the generation prompt; None where it is dropped.

        One without any ordinary token, be it empty or of control tokens alone, asks nothing and is always dropped.
        """
        if prompt.messages is not None:
            ids = self._text.prompt(self._renderer.prompt(prompt.messages))
        else:
            ids = self._bos + self._text.prompt(Rendered(prompt.text or "", (), ()))
        if all(token in self._special_ids and token != self.tokenizer.unk_token_id for token in ids):
            self.dropped += 1
            return None
        if len(ids) > self.max_prompt_length:
            if not self._may_cut(prompt.id, len(ids), self.max_prompt_length):
                return None
            ids = self._shortened(ids, self.max_prompt_length)
            self.cut += 1
        return replace(prompt, token_ids=ids)

    def encode_demonstration(self, demonstration: Demonstration) -> TokenRow | None:
        """The row to imitate; None where it is dropped."""
        if demonstration.messages is not None:
            row = self._row(self._renderer.conversation(demonstration.messages))
        elif demonstration.text is not None:
            return self._fit_text(demonstration.id, self._document(demonstration.text))
        else:
            row = self._plain(demonstration.prompt or "", demonstration.completion or "")
        fitted = self._fit(demonstration.id, [row])
        return fitted[0] if fitted else None

    def encode_text(self, text: str) -> list[TokenRow]:
        """The document, its end marked by EOS, in pieces of at most `max_length`.

        Each piece begins with the last token of the one before, so that every token but the first is predicted once.
        """
        whole = self._document(text)
        step = self.max_length - 1
        pieces = [whole.take(start, start + self.max_length) for start in range(0, max(1, len(whole) - 1), step)]
        return [replace(piece, trained=(False, *piece.trained[1:])) for piece in pieces]

    def encode_ranking(self, ranking: Ranking) -> RankedRows | None:
        """A row for each completion, all after the same prompt tokens; None where the ranking is dropped."""
        rows = [self._answer(ranking.prompt, completion) for completion in ranking.completions]
        fitted = self._fit(ranking.prompt.id, rows)
        return RankedRows(candidates=tuple(fitted), margin=ranking.margin) if fitted else None

    def encode_labelled(self, labelled: LabelledCompletion) -> LabelledRow | None:
        """The row of a judged completion; None where it is dropped."""
        fitted = self._fit(labelled.prompt.id, [self._answer(labelled.prompt, labelled.completion)])
        return LabelledRow(row=fitted[0], label=labelled.label) if fitted else None

    def encode_stepwise(self, stepped: SteppedCompletion, separator: str) -> StepRow | None:
        """The row of a completion judged step by step; steps beyond `max_length` are cut off, or the row is dropped."""
        rendered = self._rendered(stepped.prompt, separator.join(stepped.steps))
        tokens = self._text.conversation(rendered)
        ends = step_ends(rendered.text, rendered.turns[-1].span.start, stepped.steps, tokens.spans)
        bos = self._bos if stepped.prompt.messages is None else ()
        ids = (bos + tokens.ids)[: self.max_length]
        places = [end + len(bos) for end in ends or () if end + len(bos) < self.max_length]
        is_long = len(places) < len(stepped.steps) and ends is not None
        if is_long and not self._may_cut(stepped.prompt.id, len(bos) + len(tokens.ids), self.max_length):
            return None
        if not places:
            self.dropped += 1
            return None
        self.cut += is_long
        trained = tuple(number in set(places) for number in range(len(ids)))
        return StepRow(row=TokenRow(tokens=ids, trained=trained), labels=stepped.labels[: len(places)])

    # --- batches -------------------------------------------------------------------------------------------------

    def token_batch(self, rows: Sequence[TokenRow]) -> TokenBatch:
        return token_batch(rows, self.pad_id)

    def preference_batch(self, rankings: Sequence[RankedRows]) -> PreferenceBatch:
        return preference_batch(rankings, self.pad_id)

    def labelled_batch(self, rows: Sequence[LabelledRow]) -> LabelledBatch:
        return labelled_batch(rows, self.pad_id)

    def step_batch(self, rows: Sequence[StepRow]) -> StepBatch:
        return step_batch(rows, self.pad_id)

    def rollout_batch(self, rollouts: Sequence[Rollout]) -> TokenBatch:
        return rollout_batch(rollouts, self.pad_id)

    # --- what runs and engines ask -------------------------------------------------------------------------------

    @property
    def pad_id(self) -> int:
        """Fills the right of short rows; any id would do, as masks come from lengths."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @property
    def eos_id(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no EOS token, so nothing can learn to stop: set `eos_token`.")
        return int(self.tokenizer.eos_token_id)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens at which generation stops: EOS and what ends an assistant turn in the chat template."""
        stops = [] if self.tokenizer.eos_token_id is None else [self.eos_id]
        controls = control_tokens(self.tokenizer)
        end = controls.search(self._chat.end_of_turn) if self._chat and controls else None
        if end is not None:
            stops.append(token_id(self.tokenizer, end.group()))
        return tuple(dict.fromkeys(stops))

    @property
    def vocabulary(self) -> Vocabulary:
        """What methods that make rows of their own need to know."""
        mask = self.tokenizer.mask_token_id
        return Vocabulary(
            size=len(self.tokenizer),
            special_ids=self._special_ids,
            pad_id=self.pad_id,
            eos_id=self.eos_id,
            mask_id=None if mask is None else int(mask),
            sentinel_ids=sentinel_ids(self.tokenizer),
        )

    def metrics(self) -> Metrics:
        """How many rows were dropped and cut so far."""
        return {"data/dropped": float(self.dropped), "data/cut": float(self.cut)}

    # --- the pieces ----------------------------------------------------------------------------------------------

    @property
    def _renderer(self) -> ChatRenderer:
        if self._chat is None:
            raise DataError("the tokenizer has no chat template, which rows of messages need: use a chat model.")
        return self._chat

    def _answer(self, prompt: Prompt, completion: str) -> TokenRow:
        """One completion of a prompt, trained, the rest not."""
        if prompt.messages is None:
            return self._plain(prompt.text or "", completion)
        return self._row(self._rendered(prompt, completion))

    def _rendered(self, prompt: Prompt, completion: str) -> Rendered:
        if prompt.messages is None:
            return _continued(prompt.text or "", completion)
        answer = Message(role="assistant", content=completion)
        return self._renderer.conversation((*without_weights(prompt.messages), answer))

    def _plain(self, prompt: str, completion: str) -> TokenRow:
        """Text and its continuation up to EOS."""
        row = self._row(_continued(prompt, completion))
        return TokenRow(tokens=self._bos, trained=(False,) * len(self._bos)) + row

    def _row(self, rendered: Rendered) -> TokenRow:
        """Tokens of a rendered conversation; those wholly inside a turn's span are trained."""
        tokens = self._text.conversation(rendered)
        weights = [_weight_at(span, rendered.turns) for span in tokens.spans]
        row = TokenRow(tokens=tokens.ids, trained=tuple(weight > 0 for weight in weights))
        row = weighted(row, weights)
        last = rendered.turns[-1] if rendered.turns else None
        if last is not None and not last.ended and last.span.end == len(rendered.text):
            row += weighted(TokenRow(tokens=(self.eos_id,), trained=(True,)), [last.weight])
        return row

    def _document(self, text: str) -> TokenRow:
        ids = self._text.prompt(Rendered(text, (), (Span(0, len(text)),)))
        tokens = (*self._bos, *ids, self.eos_id)
        return TokenRow(tokens=tokens, trained=(False,) + (True,) * (len(tokens) - 1))

    # --- lengths -------------------------------------------------------------------------------------------------

    def _fit(self, row_id: str, rows: list[TokenRow]) -> list[TokenRow]:
        """The rows within `max_length`, or an empty list where they are dropped."""
        if not all(any(row.trained) for row in rows):
            self.dropped += 1
            return []
        longest = max(len(row) for row in rows)
        if longest <= self.max_length:
            return rows
        if not self._may_cut(row_id, longest, self.max_length):
            return []
        fitted = [self._first_turns(row) for row in rows]
        excess = max(len(row) for row in fitted) - self.max_length
        if excess > 0:
            kept = len(self._bos) if all(row.tokens[: len(self._bos)] == self._bos for row in fitted) else 0
            # One token of the prompt has to stay: nothing would predict the first of the completion.
            if kept + excess >= min(row.trained.index(True) for row in fitted):
                self.dropped += 1
                return []
            fitted = [row.take(0, kept) + row.take(kept + excess, len(row)) for row in fitted]
        self.cut += 1
        return fitted

    def _first_turns(self, row: TokenRow) -> TokenRow:
        """The row up to the end of the last trained turn that fits, or of the first where none does."""
        ends = [i + 1 for i, t in enumerate(row.trained) if t and not any(row.trained[i + 1 : i + 2])]
        fitting = [end for end in ends if end <= self.max_length]
        return row.take(0, fitting[-1] if fitting else ends[0])

    def _fit_text(self, row_id: str, row: TokenRow) -> TokenRow | None:
        if len(row) <= self.max_length:
            return row
        if not self._may_cut(row_id, len(row), self.max_length):
            return None
        self.cut += 1
        return row.take(0, self.max_length)

    def _may_cut(self, row_id: str, length: int, limit: int) -> bool:
        """Whether to shorten an overlong row; False once it is counted as dropped."""
        if self.overlong == "error":
            raise DataError(
                f"{row_id} has {length} tokens, the limit is {limit}: raise it, or set overlong: drop or cut."
            )
        if self.overlong == "drop":
            self.dropped += 1
        return self.overlong == "cut"

    def _shortened(self, ids: tuple[int, ...], limit: int) -> tuple[int, ...]:
        """Without tokens of the left, BOS apart: the end of a prompt is what is answered."""
        bos = self._bos if ids[: len(self._bos)] == self._bos else ()
        return bos + ids[len(ids) - limit + len(bos) :]


def _continued(prompt: str, completion: str) -> Rendered:
    """Text and its continuation. Control tokens in it count as such: such rows may be rendered chats."""
    span = Span(len(prompt), len(prompt) + len(completion))
    return Rendered(prompt + completion, (Turn(span, 1.0, ended=False),), ())


def _weight_at(token: Span, turns: Sequence[Turn]) -> float:
    for turn in turns:
        if turn.span.start <= token.start < token.end <= turn.span.end:
            return turn.weight
    return 0.0


def _bos_of_plain_text(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """BOS, where the tokenizer itself begins texts with it."""
    ids = tokenizer("a")["input_ids"]
    return (int(ids[0]),) if ids and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else ()
