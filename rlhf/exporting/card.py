"""README.md of an export: a model card in the form the hub reads. No date and no path of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rlhf import __version__
from rlhf.config.secrets import masked
from rlhf.evaluation.page.render import (
    duration_text,
    interval_text,
    measured_interval_text,
    measured_text,
    score_text,
    signed_text,
)
from rlhf.evaluation.statistics import Estimate
from rlhf.exporting.facts import RunFacts, hub_sets
from rlhf.exporting.source import Source, is_hub_name, read_table

CARD = "README.md"
_IN_WORDS = {
    "safetensors": "safetensors",
    "adapter": "a LoRA adapter (peft)",
    "gguf": "GGUF",
    "gptq": "4-bit weights (GPTQ, compressed-tensors)",
    "awq": "4-bit weights (AWQ, compressed-tensors)",
    "int8": "8-bit integers (weights and activations, compressed-tensors)",
    "fp8": "8-bit floats (weights and activations, compressed-tensors)",
}
_LOAD = """\
from transformers import {auto_class}, AutoTokenizer

model = {auto_class}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")"""
_LOAD_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{name}")"""


def card_text(source: Source, to: str, name: str, base: str, facts: RunFacts | None, file: str = "") -> str:
    """The card of an export called `name`, in the format `to`, that descends from `base` (empty: from nothing).

    `file` is the one that is opened, where it is not the folder.
    """
    config = read_table(source.weights / "config.json")
    environment = Environment(  # the text is Markdown: nothing to escape for HTML
        loader=FileSystemLoader(Path(__file__).parent), autoescape=False, undefined=StrictUndefined,  # noqa: S701
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(cell=_cell, duration=duration_text, measured=_measured, scored=_scored)
    front = front_matter(to, base, config, facts, is_trained=facts is not None or source.adapter is not None)
    text = environment.get_template("model_card.md.j2").render(
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        title=name,
        intro=_intro(source, to, base, facts),
        use=_use(to, base, config, file or name),
        use_language="sh" if to == "gguf" else "python",
        facts=facts,
        held_out=[figure for stage in facts.stages for figure in stage.held_out] if facts else [],
        fence=_fence(facts.recipe_text if facts else ""),
    )
    return masked(text)


def front_matter(
    to: str, base: str, config: Mapping[str, Any], facts: RunFacts | None, *, is_trained: bool
) -> dict[str, Any]:
    """What the hub reads. A licence is the owner's to state; results are no benchmark's, so there is no model-index."""
    tags = [
        "rlhf",
        *(facts.methods if facts else ()),
        *(["lora"] if to == "adapter" else [to] if to != "safetensors" else []),
    ]
    found: dict[str, Any] = {}
    if is_hub_name(base):
        found["base_model"] = base
        if relation := _relation(to, is_trained=is_trained):
            found["base_model_relation"] = relation
    found["library_name"] = {"adapter": "peft", "gguf": "gguf"}.get(to, "transformers")
    if task := _task(config):
        found["pipeline_tag"] = task
    if sets := hub_sets(facts):
        found["datasets"] = sets
    return found | {"tags": tags}


def _relation(to: str, *, is_trained: bool) -> str:
    """To the base model, in the hub's words; none of a copy."""
    if to == "adapter":
        return "adapter"
    return "finetune" if is_trained else "" if to == "safetensors" else "quantized"


def _task(config: Mapping[str, Any]) -> str:
    kind = _architecture(config)
    return {"ForCausalLM": "text-generation", "ForSequenceClassification": "text-classification"}.get(kind, "")


def _architecture(config: Mapping[str, Any]) -> str:
    found = re.search(r"For\w+$", str((config.get("architectures") or [""])[0]))
    return found.group() if found else ""


def _intro(source: Source, to: str, base: str, facts: RunFacts | None) -> str:
    what = f"the model of stage `{source.stage}`" if source.stage else "a model"
    of = f" It descends from {_linked(base)}." if base else " It began with random weights." if facts else ""
    return f"{what[0].upper()}{what[1:]}, as {_IN_WORDS[to]}, exported by rlhf {__version__}.{of}"


def _linked(base: str) -> str:
    return f"[{base}](https://huggingface.co/{base})" if is_hub_name(base) else f"`{_short(base)}`"


def _short(base: str) -> str:
    """A hub name or a path from here as it is; of a path from the root, which is this machine's, the end."""
    return "/".join(Path(base).parts[-2:]) if Path(base).is_absolute() else base


def _use(to: str, base: str, config: Mapping[str, Any], name: str) -> str:
    if to == "gguf":
        return f"llama-cli -m {name}"
    if to == "adapter":
        return _LOAD_ADAPTER.format(base=_short(base), name=name)
    kind = _architecture(config)
    auto_class = f"AutoModel{kind}" if kind else "AutoModel"
    known = ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForMaskedLM")
    return _LOAD.format(auto_class=auto_class if auto_class in known else "AutoModel", name=name)


def _fence(text: str) -> str:
    """Longer than any row of backquotes in the text."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _cell(text: object) -> str:
    """Of a table: one line, and no column of its own."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _measured(estimate: Estimate | None) -> str:
    return "–" if estimate is None else _with_interval(measured_text(estimate.value), measured_interval_text(estimate))


def _scored(estimate: Estimate | None, signed: bool = False) -> str:
    if estimate is None:
        return "–"
    write = signed_text if signed else score_text
    return _with_interval(write(estimate.value), interval_text(estimate, signed))


def _with_interval(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value
