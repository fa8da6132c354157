"""Every library the package imports is declared, and every declared version is one the constraints pin."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION_OF = {"yaml": "pyyaml"}


def declared() -> dict[str, str]:
    """Distribution name -> its requirement, of the base and every extra that `make setup` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    apart = ("vllm", "quantize")  # not of `make setup`; the last goes with nothing that vLLM pins
    extras = {name: rows for name, rows in project["optional-dependencies"].items() if not name.startswith(apart)}
    rows = [*project["dependencies"], *(row for rows in extras.values() for row in rows)]
    return {_name(row): row for row in rows if _name(row) != "rlhf"}


def pinned() -> dict[str, str]:
    rows = [row for row in (ROOT / "constraints.txt").read_text().splitlines() if row and not row.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", row) for row in rows), "constraints.txt holds exact versions only"
    return {_name(row): row.split("==")[1] for row in rows}


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found.group().lower().replace("_", "-")


def libraries_imported(source: str) -> set[str]:
    """Distributions behind the imports of one file, the standard library and ourselves left out."""
    tops: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            tops.add(node.module.split(".")[0])
    third_party = tops - sys.stdlib_module_names - {"rlhf"}
    return {DISTRIBUTION_OF.get(top, top).lower().replace("_", "-") for top in third_party}


def test_every_import_is_declared() -> None:
    used: dict[str, str] = {}
    for path in sorted((ROOT / "rlhf").rglob("*.py")):
        for library in libraries_imported(path.read_text(encoding="utf-8")):
            used.setdefault(library, str(path.relative_to(ROOT)))
    known = {*declared(), "vllm", "llmcompressor"}
    assert not {library: path for library, path in used.items() if library not in known}


def test_every_declared_library_is_pinned() -> None:
    assert not set(declared()) - set(pinned())


def test_constraints_pin_torch_without_a_build() -> None:
    assert pinned()["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import yaml, json", {"pyyaml"}),
        ("def f():\n    from ray.train import report", {"ray"}),
        ("from rlhf.types import Prompt\nfrom . import x", set()),
    ],
)
def test_imports_are_seen(source: str, expected: set[str]) -> None:
    assert libraries_imported(source) == expected


def test_what_guests_need_is_installed_with_their_tests() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["guests"]
    known = {*map(_name, extra), *declared(), "rlhf"}
    for path in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        needed = {_name(row) for row in tomllib.loads(path.read_text())["project"]["dependencies"]}
        assert needed <= known, f"{path.parent.name}: not in the extra `guests`: {needed - known}"
