"""The annotated tree in README.md is the table of contents: it names what is on disk, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"[\w.-]+/|[\w-]*\.\w+|Makefile|LICENSE")


def tree_of(readme: str) -> set[str]:
    """Paths the tree names, folders ending in "/": the fenced block that has a line starting with `rlhf/`.

    A line holds one or more names and then a caption; an indented line belongs to the last folder at the margin.
    """
    block = next((b for b in FENCED.findall(readme) if re.search(r"^rlhf/", b, re.MULTILINE)), "")
    paths: set[str] = set()
    parent = ""
    for line in block.splitlines():
        names = _leading_names(line)
        is_indented = line.startswith((" ", "\t"))
        if not is_indented and names:
            parent = names[-1] if names[-1].endswith("/") else ""
        paths.update(parent + name if is_indented else name for name in names)
    return paths


def _leading_names(line: str) -> list[str]:
    names = []
    for word in line.split():
        if not ENTRY.fullmatch(word):
            break
        names.append(word)
    return names


def mistakes(readme: str, root: Path) -> list[str]:
    """What the tree leaves out of `rlhf/`, and what it names that is not there."""
    named = tree_of(readme)
    here = {f"rlhf/{p.name}/" for p in (root / "rlhf").iterdir() if p.is_dir() and p.name != "__pycache__"}
    here |= {f"rlhf/{p.name}" for p in (root / "rlhf").glob("*.py")}
    return [f"not in the tree: {path}" for path in sorted(here - named)] + [
        f"in the tree, not on disk: {path}" for path in sorted(named) if not (root / path).exists()
    ]


def test_readme_tree_is_the_disk() -> None:
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("README.md is not written yet")
    assert mistakes(readme.read_text(encoding="utf-8"), ROOT) == []


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    (tmp_path / "rlhf" / "cli").mkdir(parents=True)
    (tmp_path / "rlhf" / "types.py").touch()
    (tmp_path / "docs").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("rlhf/\n  types.py        nouns\n  cli/   one file per command\ndocs/  guides", []),
        ("rlhf/\n  types.py  nouns", ["not in the tree: rlhf/cli/"]),
        ("rlhf/\n  types.py cli/ nouns\n  errors.py  errors", ["in the tree, not on disk: rlhf/errors.py"]),
        ("rlhf/\n  types.py cli/ all\nplugins/ guests", ["in the tree, not on disk: plugins/"]),
        ("", ["not in the tree: rlhf/cli/", "not in the tree: rlhf/types.py"]),
    ],
)
def test_tree_is_compared(small_house: Path, tree: str, expected: list[str]) -> None:
    assert mistakes(f"# Title\n\n```\nmake quickstart\n```\n\n```text\n{tree}\n```\n", small_house) == expected
