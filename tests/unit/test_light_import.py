"""`import rlhf` and `rlhf --help` answer at once: nothing heavy is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["torch", "ray", "transformers", "deepspeed", "vllm", "peft", "datasets", "pandas", "matplotlib", "pyarrow"]

HELP = """
import sys
sys.argv = ["rlhf", "--help"]
from rlhf.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def heavy_modules_after(code: str) -> list[str]:
    """The heavy libraries a fresh interpreter has loaded once it has run `code`."""
    report = f"\nimport sys\nprint('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return last[1:]


@pytest.mark.parametrize(
    "code", ["import rlhf", "import rlhf.types, rlhf.errors, rlhf.protocols", "from rlhf import hookimpl", HELP]
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert heavy_modules_after(code) == []


def test_check_sees_what_is_loaded() -> None:
    assert heavy_modules_after("import sys, types\nsys.modules['ray'] = types.ModuleType('ray')") == ["ray"]
