"""GGUF, written by llama.cpp's own converter, which is a program of its own and is run as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rlhf.errors import ConfigError, RunError
from rlhf.exporting.source import read_table

SCRIPT = "convert_hf_to_gguf.py"
VARIABLE = "RLHF_GGUF_CONVERTER"
_OUT_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_SHOWN = 2_000
"""Characters of the end of what a failed converter printed."""


@dataclass(frozen=True)
class Converter:
    """How the converter is started."""

    command: tuple[str, ...]

    def convert(self, model: Path, out: Path, name: str) -> Path:
        """Write `out/NAME-TYPE.gguf` from a model's folder, in the format its weights are in.

        The folder should hold no code: the converter lets some tokenizers bring their own. It may fetch nothing.
        """
        dtype = str(read_table(model / "config.json")["dtype"])
        out_type = _OUT_TYPES.get(dtype)
        if out_type is None:
            raise ConfigError(f"the weights are {dtype}, of which GGUF knows nothing: choose another with --dtype")
        target = out / f"{name}-{out_type}.gguf"
        options = (f"--outfile={target}", f"--outtype={out_type}", f"--model-name={name}")
        done = subprocess.run(  # noqa: S603 - the program the user named, no shell
            [*self.command, str(model), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            check=False,
        )
        if done.returncode or not target.is_file():
            said = done.stdout.strip()[-_SHOWN:] or "it printed nothing"
            ended = f"ended with {done.returncode}" if done.returncode else "wrote no file"
            raise RunError(f"{SCRIPT} {ended}; it said:\n{said}")
        return target


def find_converter(named: Path | None) -> Converter:
    """The one named, or of the environment variable, or on PATH. Raises `ConfigError` where there is none.

    A file that is named is run by this Python, which has torch and transformers; a command on PATH as it is.
    """
    asked, option = (named, "--converter") if named is not None else (_of_environment(), VARIABLE)
    if asked is not None:
        file = asked.expanduser()
        file = file / SCRIPT if file.is_dir() else file
        if not file.is_file():
            raise ConfigError(f"{option}: no file {file}; {_HOW_TO_GET}")
        return Converter((sys.executable, str(file.absolute())))
    found = shutil.which(SCRIPT)
    if found is None:
        raise ConfigError(f"--to gguf needs {SCRIPT} of llama.cpp, which is not here: {_HOW_TO_GET}")
    return Converter((found,))


_HOW_TO_GET = f"git clone https://github.com/ggml-org/llama.cpp, and name the clone with --converter or in {VARIABLE}"


def _of_environment() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None
