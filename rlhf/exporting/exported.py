"""An export from beginning to end: found, checked, written beside its name, and named last."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlhf.errors import ConfigError, UserError
from rlhf.exporting.adapter import adapter_folder, base_of_adapter, base_warning, copy_adapter
from rlhf.exporting.calibration import calibration_rows
from rlhf.exporting.card import CARD, card_text
from rlhf.exporting.facts import RunFacts, run_facts
from rlhf.exporting.gguf import Converter, find_converter
from rlhf.exporting.model_folder import copy_tokenizer, require_exportable, write_model
from rlhf.exporting.quantized import CALIBRATED, SCHEMES, require_compressor, require_quantizable, write_quantized
from rlhf.exporting.source import Source, find_source
from rlhf.exporting.whole_folder import require_free, whole_folder

Format = Literal["safetensors", "adapter", "gguf", "gptq", "awq", "int8", "fp8"]
FORMATS: tuple[Format, ...] = ("safetensors", "adapter", "gguf", "gptq", "awq", "int8", "fp8")
_CAST = ("safetensors", "gguf")


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    to: Format = "safetensors"
    dtype: str | None = None
    converter: Path | None = None
    data: Path | None = None
    row_format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What was written."""

    out: str
    format: str
    source: str
    base_model: str
    files: dict[str, int]
    """Name -> bytes."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def export(given: str, out: Path, wanted: Wanted, note: Callable[[str], None]) -> Exported:
    """Write `out`, whole or not at all. What is missing, tools included, is said before anything is written."""
    require_free(out)
    converter = find_converter(wanted.converter) if wanted.to == "gguf" else None
    if wanted.to in SCHEMES:
        require_compressor(wanted.to)
    _require_fitting(wanted)
    source = find_source(given)
    require_exportable(source)
    if wanted.to == "adapter":
        adapter_folder(source)
    if wanted.to in SCHEMES:
        require_quantizable(source.weights)
    facts = _facts(source, note)
    base = _base(source, wanted.to, facts)
    with whole_folder(out) as scratch:
        _write(source, scratch, out.name, wanted, converter, note)
        opened = next((path.name for path in scratch.glob("*.gguf")), "")
        text = card_text(source, wanted.to, out.name, base, facts, opened)
        (scratch / CARD).write_text(text, encoding="utf-8")
        files = {str(p.relative_to(scratch)): p.stat().st_size for p in sorted(scratch.rglob("*")) if p.is_file()}
    return Exported(str(out), wanted.to, given, base, files)


def _require_fitting(wanted: Wanted) -> None:
    """Refuse an option that the format has no use for, and the lack of one it needs."""
    if wanted.dtype is not None and wanted.to not in _CAST:
        raise ConfigError(f"--dtype is of --to {' and '.join(_CAST)}; {wanted.to} says itself in what it is")
    if wanted.converter is not None and wanted.to != "gguf":
        raise ConfigError("--converter is of --to gguf")
    if wanted.data is not None and wanted.to not in CALIBRATED:
        raise ConfigError(f"--data is of --to {' and '.join(CALIBRATED)}; {wanted.to} needs no rows")
    if wanted.data is None and wanted.to in CALIBRATED:
        raise ConfigError(
            f"--to {wanted.to} measures activations on rows: name a file of them with --data, such as the one the "
            "model was trained on"
        )


def _write(
    source: Source, scratch: Path, name: str, wanted: Wanted, converter: Converter | None, note: Callable[[str], None]
) -> None:
    if wanted.to == "safetensors":
        write_model(source, scratch, wanted.dtype)
    elif wanted.to == "adapter":
        copy_adapter(source, scratch)
        copy_tokenizer(source, scratch)
        if warning := base_warning(source):
            note(warning)
    else:
        _write_from_plain(source, scratch, name, wanted, converter)


def _write_from_plain(source: Source, scratch: Path, name: str, wanted: Wanted, converter: Converter | None) -> None:
    """Formats that another project's program makes. It is given a folder with the model merged and no code in it."""
    plain = scratch / ".plain"
    plain.mkdir()
    write_model(source, plain, wanted.dtype)
    if converter is not None:
        converter.convert(plain, scratch, name)
    else:
        _quantize(source, plain, scratch, wanted)
    shutil.rmtree(plain)


def _quantize(source: Source, plain: Path, scratch: Path, wanted: Wanted) -> None:
    rows = calibration_rows(wanted.data, plain, wanted.row_format, wanted.columns) if wanted.data is not None else []
    write_quantized(plain, scratch, wanted.to, rows)
    copy_tokenizer(source, scratch)


def _facts(source: Source, note: Callable[[str], None]) -> RunFacts | None:
    """What the run says; of one whose recipe this version cannot read, nothing, which is said."""
    try:
        return run_facts(source)
    except UserError as error:
        note(f"the model card leaves out how the model was made: {error}")
        return None


def _base(source: Source, to: str, facts: RunFacts | None) -> str:
    """What the export descends from: the base of an adapter, or of the run, or the hub model that was named."""
    if to == "adapter" or source.adapter is not None:
        return base_of_adapter(source)
    if facts is not None:
        return facts.base
    return "" if source.is_local else source.given
