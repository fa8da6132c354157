"""Files of every suffix give rows; whatever is wrong with one is said in one line, with the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf.data.files import read_rows
from rlhf.errors import DataError


def values(path: Path | str, **options: object) -> list[dict[str, object]]:
    return [row.values for row in read_rows([str(path)], **options)]  # type: ignore[arg-type]


def error(path: Path | str) -> str:
    with pytest.raises(DataError) as raised:
        values(path)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_every_suffix_gives_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"prompt": "a", "completion": 'b "quoted", and\ntwo lines'}, {"prompt": "ü\u2028", "completion": "d"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.csv").write_text('prompt,completion\na,"b ""quoted"", and\ntwo lines"\nü\u2028,d\n')
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for suffix in ("jsonl", "json", "csv", "parquet"):
        assert values(tmp_path / f"a.{suffix}") == rows, suffix


def test_a_json_file_may_hold_one_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert values(tmp_path / "a.json") == [{"text": "a"}, {"text": "b"}]


def test_byte_order_mark_and_crlf_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n')
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\r\na\r\nb\r\n")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\nb\r\n")
    for name in ("a.jsonl", "a.csv", "a.txt"):
        assert values(tmp_path / name) == [{"text": "a"}, {"text": "b"}], name


@pytest.mark.parametrize(
    ("documents", "expected"),
    [("blank", ["a\nb", "c"]), ("lines", ["a", "b", "c"]), ("file", ["a\nb\n \t\n\nc"])],
)
def test_documents_of_a_text_file(tmp_path: Path, documents: str, expected: list[str]) -> None:
    (tmp_path / "a.txt").write_text("a\nb\n \t\n\nc\n")
    assert [row["text"] for row in values(tmp_path / "a.txt", documents=documents)] == expected


def test_folders_globs_and_several_paths_keep_ids_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text('{"text": "x"}\n')
        (tmp_path / name / "README.md").write_text("not data")
    for paths in ([f"{tmp_path}/one", f"{tmp_path}/two"], [f"{tmp_path}/*/a.jsonl"], [f"{tmp_path}/**/*.jsonl"]):
        ids = [row.id for row in read_rows(paths)]
        assert ids == ["0/a.jsonl:1", "1/a.jsonl:1"]
    assert str(tmp_path) not in ids[0]


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x"}\n')
    assert "Did you mean 'train.jsonl'?" in error(tmp_path / "trian.jsonl")


def test_a_folder_without_data_and_a_glob_without_match_are_errors(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    assert "no data files in folder" in error(tmp_path)
    assert "no file matches" in error(f"{tmp_path}/*.jsonl")
    assert "unknown suffix '.md'" in error(tmp_path / "notes.md")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(" \n")
    assert "is empty" in error(tmp_path / name)


def test_a_file_with_a_header_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion\n")
    assert "has no rows" in error(tmp_path / "a.csv")


def test_malformed_rows_name_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": \n')
    assert "a.jsonl, line 3: not valid JSON" in error(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n["b"]\n')
    assert "b.jsonl, line 2: expected an object with named columns, found list" in error(tmp_path / "b.jsonl")
    (tmp_path / "c.json").write_text('[{"text": "a"},\n{"text" "b"}]')
    assert "c.json, line 2" in error(tmp_path / "c.json")
    (tmp_path / "d.csv").write_text("a,b\n1,2\n3\n")
    assert "d.csv, row 2: line 3 has not the 2 fields" in error(tmp_path / "d.csv")
    (tmp_path / "e.csv").write_text("a,b\n1,2,3\n")
    assert "e.csv, row 1: line 2 has not the 2 fields" in error(tmp_path / "e.csv")
    (tmp_path / "f.parquet").write_bytes(b"not parquet at all")
    assert "cannot be read as Parquet" in error(tmp_path / "f.parquet")


def test_text_that_is_not_utf8_names_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "\xe9"}\n')
    assert "a.jsonl, line 2: not UTF-8: byte 0xe9 at its offset 10" in error(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\na\n\xe9\n")
    assert "byte 0xe9 at offset 10 (line 3)" in error(tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_bytes('{"text": "a"}'.encode("utf-16"))
    assert "b.jsonl is UTF-16, not UTF-8" in error(tmp_path / "b.jsonl")


def test_hub_names_are_loaded_with_split_and_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from rlhf.data.files import HubOptions

    seen = []

    def load(name: str, config: str | None, **options: object) -> list[dict[str, str]]:
        seen.append((name, config, options))
        return [{"text": "from the hub"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    for path in ("org/name", "hub:org/name"):
        rows = list(read_rows([path], hub=HubOptions("test", "small", "abc")))
        assert rows[0].values == {"text": "from the hub"}
        assert rows[0].id == "org/name:1"
    assert seen == [("org/name", "small", {"split": "test", "revision": "abc"})] * 2


def test_a_hub_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load(*_: object, **__: object) -> None:
        raise FileNotFoundError("Couldn't reach the hub\nand a long story")

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert "hub data set 'org/name' (split 'train') could not be loaded: Couldn't reach the hub" in error(
        "hub:org/name"
    )


def test_a_path_that_looks_like_a_hub_name_but_has_a_local_folder_is_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "no file data/train" in error("data/train")
