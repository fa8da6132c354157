"""Tokenizers: loaded from a model with what is missing filled in, or trained afresh on the stage's own texts."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

from rlhf.config import NewTokenizerConfig
from rlhf.config.model_files import why_not_loaded
from rlhf.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

PAD, EOS, UNKNOWN, END_OF_TURN = "<|pad|>", "<|end|>", "<|unknown|>", "<|end_turn|>"
MASK = "<|mask|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end_turn|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end_turn|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Of tokenizers made here."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].title() + ':\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\n\n' }}"
    "{% else %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""For models without a chat template: roles in words, EOS behind each answer. It is saved with the model."""

_SPARE = re.compile(r"(?!.*(image|vision|video|audio)).*(pad|reserved|unused|dummy)", re.IGNORECASE)


def load_tokenizer(path: str, revision: str | None = None, eos_token: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name, with a padding token and a chat template in any case.

    `eos_token` replaces the tokenizer's own, or stands in where it has none; it must be in the vocabulary.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001 - the files are a stranger's, and the tokenizers library raises bare ones
        raise DataError(f"no tokenizer can be loaded from {path!r}: {why_not_loaded(error)}") from None
    return completed(tokenizer, eos_token)


def completed(tokenizer: PreTrainedTokenizerBase, eos_token: str | None = None) -> PreTrainedTokenizerBase:
    """Set what a tokenizer lacks: EOS as told, a padding token, the plain chat template. Adds nothing to it."""
    if eos_token is not None:
        if eos_token not in tokenizer.get_vocab():
            raise DataError(f"eos_token {eos_token!r} is not in the tokenizer's vocabulary.")
        tokenizer.eos_token = eos_token
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _spare_token(tokenizer)
    if tokenizer.chat_template is None and tokenizer.eos_token is not None:
        tokenizer.chat_template = PLAIN_TEMPLATE
        log.info("the tokenizer has no chat template: conversations use the plain one (User: .. Assistant: ..)")
    return tokenizer


def _spare_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """A special token nothing else uses, else EOS: padding is told by length, so sharing is safe."""
    # By role, which is what makes a token taken; `all_special_tokens` would also name every spare one.
    taken = {str(name) for name in tokenizer.special_tokens_map.values()}
    added = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    free = [name for name in added if name not in taken]
    # A token made for padding before one that is merely reserved.
    spare = sorted((name for name in free if _SPARE.match(name)), key=lambda name: "pad" not in name.lower())
    if spare:
        return spare[0]
    for shared in (tokenizer.eos_token, tokenizer.unk_token):
        if shared is not None:
            return str(shared)
    raise DataError("the tokenizer has no padding, EOS or unknown token: set `eos_token`.")


def require_eos(tokenizer: PreTrainedTokenizerBase, method: str) -> int:
    """Id of EOS, which `method` needs."""
    if tokenizer.eos_token_id is None:
        raise DataError(f"{method} needs to know where an answer ends, but the tokenizer has no EOS: set `eos_token`.")
    return int(tokenizer.eos_token_id)


def require_vocabulary_fits(tokenizer: PreTrainedTokenizerBase, num_embeddings: int) -> None:
    """Refuse a tokenizer that yields ids the model has no embedding for."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= num_embeddings:
        raise DataError(
            f"the tokenizer has {largest + 1} tokens, the model embeds only {num_embeddings}: they are not a pair."
        )


def new_tokenizer(config: NewTokenizerConfig, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer trained on these texts: the same texts give the same tokenizer. Saved like any of transformers.

    `words`: words and punctuation marks, each with the space before it, so that a text of known words comes back as it
    was. `bpe`: byte pairs, any text. `bytes`: a token a byte.
    """
    from transformers import PreTrainedTokenizerFast

    makers = {"words": _words, "bpe": _bpe, "bytes": _bytes}
    special = [PAD, EOS, *ROLES, END_OF_TURN]
    backend = makers[config.type](config, texts, special)
    extra: dict[str, Any] = {"unk_token": UNKNOWN} if config.type == "words" else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        additional_special_tokens=[*ROLES, END_OF_TURN],
        clean_up_tokenization_spaces=False,
        padding_side="right",
        **extra,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def add_control_tokens(tokenizer: PreTrainedTokenizerBase, kind: str, context: int) -> None:
    """What models of this kind are asked by: a mask for an encoder, sentinels for an encoder-decoder; kept if there."""
    if kind == "encoder" and tokenizer.mask_token_id is None:
        tokenizer.add_special_tokens({"mask_token": MASK})
    if kind == "encoder_decoder" and not sentinel_ids(tokenizer):
        tokenizer.add_tokens([f"<extra_id_{n}>" for n in range(max(8, context // 8))], special_tokens=True)


def sentinel_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of `<extra_id_0>`, `<extra_id_1>`, ... as T5 calls them, as far as they go on."""
    vocabulary = tokenizer.get_vocab()
    names = takewhile(vocabulary.__contains__, (f"<extra_id_{n}>" for n in count()))
    return tuple(vocabulary[name] for name in names)


def _words(config: NewTokenizerConfig, texts: Iterable[str], special: list[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex(r"\n|[^\w\s▁]"), "isolated"),
        ]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.WordLevelTrainer(
        vocab_size=config.vocab_size, special_tokens=[UNKNOWN, *special], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _bpe(config: NewTokenizerConfig, texts: Iterable[str], special: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    smallest = 256 + len(special)
    if config.vocab_size < smallest:
        raise ConfigError(f"tokenizer.vocab_size {config.vocab_size} is too small: bpe needs {smallest} or more.")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _bytes(config: NewTokenizerConfig, texts: Iterable[str], special: list[str]) -> Tokenizer:  # noqa: ARG001
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: number for number, name in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend
