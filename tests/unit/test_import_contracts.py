"""Who may import whom: the contracts of pyproject.toml hold, and each is shown to catch what it forbids."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ["layers", "engines", "ray", "peers"]


def lint_imports(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run the linter over the `rlhf` package in `folder`, with our configuration."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    command += ["--config", str(ROOT / "pyproject.toml")]
    for contract in contracts:
        command += ["--contract", contract]
    environment = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package with our names and no imports at all."""
    modules = ["types", "errors", "protocols", "config", "registry", "hookspecs", "plugins"]
    packages = ["functional", "algorithms", "engines", "rewards", "runtime", "cli"]
    for name in ["__init__", *modules, *(f"{package}/__init__" for package in packages)]:
        path = tmp_path / "rlhf" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_contracts_hold() -> None:
    if shutil.which("lint-imports", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("needs import-linter (extra `dev`)")
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_house_without_imports_keeps_contracts(house: Path) -> None:
    result = lint_imports(house)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("types", "from rlhf import config", "layers"),
        ("functional/__init__", "import rlhf.types", "layers"),
        ("registry", "from rlhf import plugins", "layers"),
        ("algorithms/__init__", "from rlhf import engines", "layers"),
        ("rewards/__init__", "def f():\n    from rlhf import runtime", "layers"),
        ("runtime/__init__", "from rlhf import cli", "layers"),
        ("newcomer", "", "layers"),
        ("algorithms/__init__", "import deepspeed", "engines"),
        ("runtime/__init__", "def f():\n    import vllm", "engines"),
        ("rewards/__init__", "from peft import LoraConfig", "engines"),
        ("engines/__init__", "import ray", "ray"),
        ("cli/__init__", "import ray.train", "ray"),
        ("engines/__init__", "import trl", "peers"),
    ],
)
def test_contract_catches(house: Path, module: str, statement: str, contract: str) -> None:
    (house / "rlhf" / f"{module}.py").write_text(statement)
    result = lint_imports(house, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("engines/__init__", "import deepspeed, vllm, peft"),
        ("runtime/__init__", "import ray.train\nfrom rlhf import engines, algorithms"),
        ("algorithms/__init__", "from rlhf import config, functional, protocols, types"),
        ("__init__", "def train():\n    from rlhf import runtime"),
    ],
)
def test_contract_allows(house: Path, module: str, statement: str) -> None:
    (house / "rlhf" / f"{module}.py").write_text(statement)
    result = lint_imports(house)
    assert result.returncode == 0, result.stdout + result.stderr
