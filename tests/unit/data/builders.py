"""Small tokenizers for these tests: byte-level, so that every text has tokens and every character its own."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CONTROL = re.compile(r"<[|｜][^<>]*?[|｜]>|\[/?INST\]")


def byte_tokenizer(template: str | None = CHATML, **special: Any) -> PreTrainedTokenizerFast:
    """A token a byte, besides the control tokens that the template spells and those given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({name: number for number, name in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)
    controls = sorted(set(_CONTROL.findall(template or "")))
    tokenizer.add_special_tokens({**special, "additional_special_tokens": controls})
    tokenizer.chat_template = template
    return tokenizer


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """ChatML with `<|im_end|>` as EOS and a padding token."""
    return byte_tokenizer(CHATML, eos_token="<|im_end|>", pad_token="<|pad|>")
