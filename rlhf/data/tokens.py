"""Text to token ids, with the characters each token stands for, and control tokens only where the template put them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from rlhf.data.chat import Rendered, special_tokens
from rlhf.data.spans import Span
from rlhf.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokens:
    """Token ids and the span of characters of each."""

    ids: tuple[int, ...]
    spans: tuple[Span, ...]

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.ids + other.ids, self.spans + other.spans)


class TextTokenizer:
    """Tokenises rendered texts; adds neither BOS nor EOS."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise DataError("the tokenizer has no fast version, which tells where each token stands in the text.")
        self._tokenizer = tokenizer
        # A copy of our own, without truncation or padding: transformers' call around it costs ten times the work.
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        names = sorted(special_tokens(tokenizer), key=lambda name: (-len(name), name))
        self._special = re.compile("|".join(map(re.escape, names))) if names else None

    def prompt(self, rendered: Rendered) -> tuple[int, ...]:
        """Token ids of a prompt, as a rollout engine is given them."""
        return self._encode(rendered.text, rendered.contents).ids

    def conversation(self, rendered: Rendered) -> Tokens:
        """Tokens of a text, in which each trained turn begins with a token of its own.

        The whole is tokenised at once; where the tokens before a turn then differ from those of its prompt alone,
        which is what the policy sees when it samples, the text is cut there and tokenised in pieces.
        """
        whole = self._encode(rendered.text, rendered.contents)
        starts = [turn.span.start for turn in rendered.turns if turn.span.start > 0]
        cuts = [start for start in starts if not self._begins(whole, rendered, start)]
        if not cuts:
            return whole
        edges = [0, *cuts, len(rendered.text)]
        pieces = Tokens((), ())
        for start, end in pairwise(edges):
            contents = [Span(c.start - start, c.end - start) for c in rendered.contents if _within(c, start, end)]
            pieces += _moved(self._encode(rendered.text[start:end], contents), start)
        # Some tokenizers put a space before every piece; then a token across the edge is the lesser evil.
        return pieces if self._decode(pieces) == self._decode(whole) else whole

    def _begins(self, whole: Tokens, rendered: Rendered, start: int) -> bool:
        """Whether the text before `start` has, by itself, the tokens it has in the whole."""
        before = self._encode(rendered.text[:start], [c for c in rendered.contents if c.end <= start])
        return whole.ids[: len(before.ids)] == before.ids

    def _decode(self, tokens: Tokens) -> str:
        return str(self._tokenizer.decode(list(tokens.ids), skip_special_tokens=False))

    def _encode(self, text: str, contents: Sequence[Span]) -> Tokens:
        """Tokens of the text; what spells a special token inside `contents` stays text."""
        hits = list(self._special.finditer(text)) if self._special else []
        real = [hit for hit in hits if not any(c.start < hit.end() and hit.start() < c.end for c in contents)]
        if len(real) == len(hits):
            return self._raw(text)
        tokens, position = Tokens((), ()), 0
        for hit in real:
            tokens += _moved(self._raw(text[position : hit.start()], split_special_tokens=True), position)
            tokens += Tokens((token_id(self._tokenizer, hit.group()),), (Span(hit.start(), hit.end()),))
            position = hit.end()
        return tokens + _moved(self._raw(text[position:], split_special_tokens=True), position)

    def _raw(self, text: str, split_special_tokens: bool = False) -> Tokens:
        if not text:
            return Tokens((), ())
        self._backend.encode_special_tokens = split_special_tokens
        encoded = self._backend.encode(text, add_special_tokens=False)
        return Tokens(tuple(encoded.ids), tuple(Span(start, end) for start, end in encoded.offsets))


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of one token by its name in the vocabulary."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def _within(span: Span, start: int, end: int) -> bool:
    return start <= span.start and span.end <= end


def _moved(tokens: Tokens, by: int) -> Tokens:
    return Tokens(tokens.ids, tuple(Span(span.start + by, span.end + by) for span in tokens.spans))
