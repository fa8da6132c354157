"""`rlhf export`: a model for others, in the formats that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlhf.cli.data_options import ColumnOption, FormatOption, row_format
from rlhf.cli.options import JsonOption
from rlhf.cli.terminal import output_to_stderr, print_json

if TYPE_CHECKING:
    from rlhf.exporting.exported import Exported

_FORMATS = ("safetensors", "adapter", "gguf", "gptq", "awq", "int8", "fp8")
_DTYPES = ("float32", "bfloat16", "float16")


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="A run's folder (its last stage), RUN/STAGE, a model's or an adapter's folder, or a hub name.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"One of {', '.join(_FORMATS)}.")] = "safetensors",
    dtype: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Of safetensors and GGUF: {', '.join(_DTYPES)}; as it is where absent."),
    ] = None,
    converter: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="llama.cpp's convert_hf_to_gguf.py, or the folder it is in."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows that GPTQ and AWQ measure activations on.")
    ] = None,
    format_name: FormatOption = None,
    column: ColumnOption = None,
    json: JsonOption = False,
) -> None:
    """Write a model to be shared or served elsewhere, with a model card: merged, as an adapter, GGUF, or quantised.

    GGUF takes llama.cpp's own converter (--converter, RLHF_GGUF_CONVERTER or PATH); GPTQ, AWQ, int8 and FP8 take
    llm-compressor (pip install 'rlhf[quantize]', in an environment of its own).
    """
    from rlhf.errors import ConfigError, nearest

    for option, value, known in (("--to", to, _FORMATS), ("--dtype", dtype, _DTYPES)):
        if value is not None and value not in known:
            raise ConfigError(f"{option} {value}: one of {', '.join(known)}.{nearest(value, known)}")
    if (format_name or column) and data is None:
        raise ConfigError("--format and --column are of --data")
    rows = row_format(format_name, column)
    from rlhf.exporting.exported import Wanted
    from rlhf.exporting.exported import export as run

    wanted = Wanted(
        to=to,  # type: ignore[arg-type]  # one of them, as was just asked
        dtype=dtype,
        converter=converter,
        data=data,
        row_format=rows.name,
        columns=dict(rows.columns),
    )
    with output_to_stderr(True):  # what libraries print is not the answer
        done = run(source, out, wanted, lambda line: typer.echo(line, err=True))
    if json:
        print_json(done.as_dict())
    else:
        _print(done)


def _print(done: Exported) -> None:
    size = sum(done.files.values())
    amount = f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
    typer.echo(f"{done.format}: {done.out} ({len(done.files)} files, {amount})")
