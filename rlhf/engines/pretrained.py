"""Weights on disk to networks of transformers and back; fresh networks. Safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from rlhf.config import ModelConfig, NewModelConfig
from rlhf.config.model_files import require_plain_model, why_not_loaded
from rlhf.engines.heads import init_scalar_head, scalar_head
from rlhf.engines.precision import local_device
from rlhf.engines.quantized import keep_as_loaded, loading_in_four_bits
from rlhf.errors import ConfigError

_UNREADABLE = (OSError, ValueError, ImportError, LookupError, TypeError, AttributeError, SafetensorError)
"""How transformers and safetensors say that weights are broken, or are not what they are taken for."""
_HEAD_WEIGHTS = ("score.weight", "score.bias", "classifier.weight", "classifier.bias")


def load_causal_lm(model: ModelConfig, dtype: torch.dtype, *, quantize: bool = False) -> PreTrainedModel:
    """The language model of a folder or hub name; with `quantize`, linear layers in four bits. Raises `ConfigError`
    where it cannot be loaded whole.
    """
    network, missing = _load(AutoModelForCausalLM, model, dtype, quantize=quantize)
    if missing:
        raise ConfigError(
            f"{model.path} has no weights for {', '.join(sorted(missing)[:3])}; a policy needs a causal language model "
            "(was this saved as a reward model?)"
        )
    return network


def load_network(auto_class: Any, model: ModelConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A network of this class of transformers. Raises `ConfigError` where it cannot be loaded whole."""
    network, missing = _load(auto_class, model, dtype)
    if missing:
        raise ConfigError(f"{model.path} has no weights for {', '.join(sorted(missing)[:3])}")
    return network


def load_scorer(
    model: ModelConfig,
    dtype: torch.dtype,
    *,
    role: str,
    seed: int,
    heads: tuple[str, ...] = (),
    trained: bool = False,
    quantize: bool = False,
) -> PreTrainedModel:
    """The network with a scalar head: a saved reward or value model, or a language model given a fresh seeded head.

    A reward model in training has the `heads` asked for, one where none is; one that only judges has those it was
    saved with. A saved head of another number of outputs is replaced by a fresh one.
    """
    labels = dict(enumerate(heads)) or {0: "LABEL_0"}
    if not trained and role in ("reward", "cost"):
        labels = saved_labels(model) or labels
    network, missing = _load(
        AutoModelForSequenceClassification,
        model,
        dtype,
        num_labels=len(labels),
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
        ignore_mismatched_sizes=True,
        quantize=quantize,
    )
    head = scalar_head(network)
    own = {name for name, parameter in network.named_parameters() if parameter is head.weight or parameter is head.bias}
    if missing - own:
        raise ConfigError(f"{model.path} has no weights for {', '.join(sorted(missing - own)[:3])}")
    if missing:
        init_scalar_head(head, role, seed)
    return network


def load_config(model: ModelConfig) -> Any:
    """What `config.json` of a folder or hub name says of the network. Raises `ConfigError`."""
    assert model.path is not None
    require_plain_model(model.path, model.revision)
    try:
        return AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=False)
    except Exception as error:
        raise ConfigError(f"cannot load the model {model.path!r}: {why_not_loaded(error)}") from error


def saved_labels(model: ModelConfig) -> dict[int, str]:
    """Outputs of a saved sequence classifier by name; none of a language model."""
    try:
        config = load_config(model)
    except ConfigError:
        return {}  # said in full when the weights are loaded
    is_classifier = any("SequenceClassification" in name for name in config.architectures or ())
    return dict(config.id2label) if is_classifier else {}


def create_model(
    new: NewModelConfig,
    *,
    vocab_size: int,
    bos_token_id: int | None,
    eos_token_id: int,
    pad_token_id: int,
    seed: int,
) -> PreTrainedModel:
    """A Llama, BERT or T5 with random weights; those of standard deviation `sqrt(2 / (5 h))` in the first two (Nguyen
    and Salazar 2019, SmallInit), T5's own in the last.
    """
    makers: dict[str, Any] = {
        "decoder": LlamaForCausalLM,
        "encoder": BertForMaskedLM,
        "encoder_decoder": T5ForConditionalGeneration,
    }
    config = new_config(
        new, vocab_size=vocab_size, bos_token_id=bos_token_id, eos_token_id=eos_token_id, pad_token_id=pad_token_id
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: PreTrainedModel = makers[new.kind](config)
    network.eval()
    return network


def new_config(
    new: NewModelConfig, *, vocab_size: int, bos_token_id: int | None, eos_token_id: int, pad_token_id: int
) -> Any:
    """The sizes of a fresh model, as transformers writes them."""
    kinds: dict[str, Any] = {"decoder": _llama, "encoder": _bert, "encoder_decoder": _t5}
    return kinds[new.kind](
        new,
        vocab_size=vocab_size,
        max_position_embeddings=new.context,
        tie_word_embeddings=new.tie_embeddings,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
    )


def _llama(new: NewModelConfig, **shared: Any) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=new.hidden_size,
        intermediate_size=new.mlp_size or -(-8 * new.hidden_size // (3 * 32)) * 32,
        num_hidden_layers=new.num_layers,
        num_attention_heads=new.num_heads,
        num_key_value_heads=new.num_kv_heads or new.num_heads,
        initializer_range=_small(new),
        **shared,
    )


def _bert(new: NewModelConfig, **shared: Any) -> BertConfig:
    return BertConfig(
        hidden_size=new.hidden_size,
        intermediate_size=new.mlp_size or 4 * new.hidden_size,
        num_hidden_layers=new.num_layers,
        num_attention_heads=new.num_heads,
        initializer_range=_small(new),
        **shared,
    )


def _t5(new: NewModelConfig, **shared: Any) -> T5Config:
    start: dict[str, Any] = {"decoder_start_token_id": shared["pad_token_id"]}
    return T5Config(
        d_model=new.hidden_size,
        d_kv=new.hidden_size // new.num_heads,
        d_ff=new.mlp_size or 4 * new.hidden_size,
        num_layers=new.num_layers,
        num_decoder_layers=new.num_layers,
        num_heads=new.num_heads,
        **start,
        **shared,
    )


def _small(new: NewModelConfig) -> float:
    return float((2 / (5 * new.hidden_size)) ** 0.5)


def save_model(network: PreTrainedModel, path: Path, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write a folder that `from_pretrained` loads; `state` instead of the network's own weights where given."""
    path.mkdir(parents=True, exist_ok=True)
    with _quiet():
        network.save_pretrained(path, state_dict=state)


def context_limit(model: ModelConfig, config: Any) -> int | None:
    """Longest row in tokens: `max_length` of the recipe, and never more than the network's own context."""
    own = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [limit for limit in (model.max_length, own) if limit]
    return min(limits) if limits else None


def _load(
    auto_class: Any, model: ModelConfig, dtype: torch.dtype, *, quantize: bool = False, **options: Any
) -> tuple[PreTrainedModel, frozenset[str]]:
    """The network without dropout, in evaluation mode, and the names its folder had no weights for."""
    if model.path is None:
        raise ConfigError("a fresh model must be written to a folder before an engine loads it")
    load_config(model)  # says what is wrong with it
    if model.attention != "auto":
        options["attn_implementation"] = model.attention
    if quantize:
        options |= loading_in_four_bits(dtype, local_device())
    try:
        with _quiet():
            network, info = auto_class.from_pretrained(
                model.path,
                revision=model.revision,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except _UNREADABLE as error:
        raise ConfigError(f"cannot load the model {model.path!r}: {why_not_loaded(error)}") from error
    mismatched = {key[0] for key in info["mismatched_keys"]}
    if any(not name.endswith(_HEAD_WEIGHTS) for name in mismatched):
        raise ConfigError(f"{model.path}: weights of the wrong shape: {sorted(map(str, info['mismatched_keys']))[:3]}")
    if model.gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    disable_dropout(network)
    keep_as_loaded(network)
    return network.eval(), frozenset(info["missing_keys"]) | mismatched


def disable_dropout(network: nn.Module) -> None:
    """Log-probs of the same tokens must agree between sampling, scoring and training."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading speaks through `ConfigError`, not through a library's warnings and progress bars."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
