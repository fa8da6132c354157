"""The user's documents: read, cut, found, and noticed when they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.errors import ConfigError, DataError
from rlhf_grounded import GroundedConfig, GroundedReward
from rlhf_grounded.passages import windows


def score(folder: Path | str, rollout: Any, **options: Any) -> Any:
    return GroundedReward(GroundedConfig(documents=(str(folder),), **options), None)([rollout])[0]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "people.md").write_text(
        "# Ada Lovelace\n\nShe was born in London in 1815.\n\n# Charles Babbage\n\nHe was born in Walworth in 1791.\n"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "rivers.txt").write_bytes("\ufeffThe Nile flows north.\r\n\r\nThe Rhine is long.\r\n".encode())
    rows = [{"text": "The Eiffel Tower is in Paris.", "source": "atlas, page 3"}, {"text": "Oslo is in Norway."}]
    (tmp_path / "places.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / ".hidden.txt").write_text("The moon is made of cheese.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("The Nile flows north.", 1),
        ("The Eiffel Tower is in Paris.", 1),
        ("The Nile flows south.", -1),
        ("The moon is made of cheese.", 0),
        ("Charles Babbage was born in 1791.", 1),
        ("Charles Babbage was born in 1815.", -1),
        ("Ada Lovelace was born in Walworth.", -1),
    ],
)
def test_claims_against_a_folder(library: Path, ask: Any, claim: str, value: float) -> None:
    found = score(library, ask("Tell me.", claim))
    assert found.value == value, found


def test_the_source_of_a_passage_is_told(library: Path, ask: Any, parts: Any) -> None:
    from rlhf_grounded import GroundedGrader

    grader = GroundedGrader(GroundedConfig(documents=(str(library),)), parts)
    tower, nile = grader.grade([ask("?", "The Eiffel Tower is in Paris."), ask("?", "The Rhine is very long.")])
    assert "[atlas, page 3#1: The Eiffel Tower is in Paris.]" in tower.rationale
    assert "rivers.txt#2: The Rhine is long.]" in nile.rationale


def test_a_phrase_is_found_by_its_question(library: Path, ask: Any) -> None:
    assert score(library, ask("Where was Ada Lovelace born?", "London"), passages=1).value == 1
    assert score(library, ask("Where is the Eiffel Tower?", "London"), passages=1).value == 0


def test_long_texts_are_cut_into_windows_that_overlap() -> None:
    words = [str(number) for number in range(250)]
    pieces = windows(" ".join(words), 100)
    assert [(piece.split()[0], piece.split()[-1]) for piece in pieces] == [("0", "99"), ("75", "174"), ("150", "249")]
    assert windows("a\nb", 100) == ["a\nb"]
    for count in (100, 101, 175, 176, 251, 400):
        pieces = windows(" ".join(map(str, range(count))), 100)
        assert {word for piece in pieces for word in piece.split()} == set(map(str, range(count)))
        assert all(len(piece.split()) <= 100 for piece in pieces)


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_a_document_that_changes_makes_errors(library: Path, ask: Any, change: str) -> None:
    reward = GroundedReward(GroundedConfig(documents=(str(library),)), None)
    assert reward([ask("?", "The Nile flows north.")])[0].value == 1
    file = library / "sub" / "rivers.txt"
    if change == "edit":
        file.write_text("The Nile flows south.")
    else:
        file.unlink()
    (found,) = reward([ask("?", "The Nile flows north.")])
    assert found.value is None
    assert f"{file} changed after it was read" in found.error


def test_a_new_run_reads_what_was_changed(library: Path, ask: Any) -> None:
    claim = ask("?", "The Nile flows south.")
    assert score(library, claim).value == -1
    (library / "sub" / "rivers.txt").write_text("The Nile flows south.")
    assert score(library, claim).value == 1


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        (
            "a.jsonl",
            b'{"text": "x"}\n{"body": "y"}\n',
            "a.jsonl:2: wants an object with a text under `text`. It has body.",
        ),
        ("a.jsonl", b'{"text": "x"}\n{"text"\n', "a.jsonl:2: not JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: wants an object"),
        ("a.txt", b"caf\xe9", "is not UTF-8 (byte 3)"),
        ("a.txt", b" \n\n ", "no text in"),
    ],
)
def test_broken_documents(tmp_path: Path, name: str, content: bytes, wanted: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        GroundedReward(GroundedConfig(documents=(str(tmp_path),)), None)
    assert wanted in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_documents(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The Nile flows north.")
    for path, wanted in [
        (tmp_path / "nots.txt", "Did you mean 'notes.txt'?"),
        (tmp_path / "empty", "no .jsonl, .md, .txt files in folder"),
        (tmp_path / "a.pdf", "convert it to text"),
    ]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "a.pdf").write_bytes(b"%PDF")
        with pytest.raises(ConfigError) as error:
            GroundedReward(GroundedConfig(documents=(str(path),)), None)
        assert wanted in str(error.value)


def test_punctuation_is_a_document_without_words(tmp_path: Path, ask: Any) -> None:
    (tmp_path / "a.txt").write_text("... --- ...")
    assert score(tmp_path, ask("?", "The Nile flows north.")).value == 0


def test_the_order_of_rows_and_of_files_does_not_matter(library: Path, ask: Any) -> None:
    rows = [ask("?", text) for text in ("The Nile flows north.", "The Rhine is short.", "Oslo is in Norway.")]
    names = [str(library / name) for name in ("people.md", "places.jsonl", "sub")]
    one = GroundedReward(GroundedConfig(documents=tuple(names)), None)(rows)
    other = GroundedReward(GroundedConfig(documents=tuple(reversed(names))), None)(list(reversed(rows)))
    assert one == list(reversed(other))


def test_a_thousand_documents(tmp_path: Path, ask: Any) -> None:
    import time

    import bm25s  # noqa: F401 - its import is not what is measured

    for number in range(1000):
        (tmp_path / f"{number}.txt").write_text(
            f"Planet {number} has {number % 17} moons. It is made of element {number}. " * 5
        )
    begun = time.process_time()
    reward = GroundedReward(GroundedConfig(documents=(str(tmp_path),)), None)
    indexed = time.process_time()
    rows = [ask("?", f"Planet {number} has {number % 17} moons. It is cold.") for number in range(64)]
    scores = reward(rows)
    judged = time.process_time()
    assert [found.value for found in scores] == [0.5] * 64
    assert indexed - begun < 4, "about 0.5 s on an idle core"
    assert judged - indexed < 4, "about 0.2 s on an idle core"
