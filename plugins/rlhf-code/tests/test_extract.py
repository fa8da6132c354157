"""Which part of a completion is its program."""

from __future__ import annotations

import pytest

from rlhf_code.extract import program_of

CASES = {
    "one block": ("Text\n```python\nx = 1\n```\nmore", "x = 1\n"),
    "last block": ("```python\nx = 1\n```\nbetter:\n```python\nx = 2\n```", "x = 2\n"),
    "python before others": ("```py\nx = 1\n```\n```\nout\n```\n```json\n{}\n```", "x = 1\n"),
    "without a language": ("```\nx = 1\n```", "x = 1\n"),
    "another language": ("```rust\nfn main() {}\n```", None),
    "capital letters and attributes": ("```Python title=a.py\nx = 1\n```", "x = 1\n"),
    "tildes": ("~~~python\nx = '```'\n~~~", "x = '```'\n"),
    "longer fence": ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
    "cut short": ("```python\nx = 1\ny =", "x = 1\ny ="),
    "indented": ("- so:\n  ```python\n  if x:\n    y\n  ```", "if x:\n  y\n"),
    "inline": ("use ```x = 1``` here", None),
    "empty block": ("```python\n```", ""),
    "nothing": ("", None),
    "windows": ("```python\r\nx = 1\r\n```\r\n", "x = 1\r\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_program_of(name: str) -> None:
    text, program = CASES[name]
    assert program_of(text, unfenced=False) == program


def test_whole_text_by_choice_and_only_without_blocks() -> None:
    assert program_of("x = 1", unfenced=True) == "x = 1"
    assert program_of("```rust\nx\n```", unfenced=True) is None


def test_long_text_takes_no_longer_than_it_is() -> None:
    assert program_of("`` " * 300_000 + "\n" + "~~~rust\n`\n" * 100_000, unfenced=False) is None
