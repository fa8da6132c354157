"""The data sets of a recipe: endless, deterministic, resumable, with rows kept apart for evaluation."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rlhf.data.dataset import FilesConfig, FilesDataset, RowsConfig, RowsDataset
from rlhf.data.records import Records
from rlhf.errors import DataError
from rlhf.types import Message


def rows(*values: dict[str, Any], **options: Any) -> RowsDataset:
    return RowsDataset(RowsConfig(rows=values, **options))


def numbered(count: int, **options: Any) -> RowsDataset:
    return rows(*({"prompt": f"p{n}", "completion": "a"} for n in range(count)), **options)


def asked(dataset: Records, count: int, seed: int = 0, start: int = 0) -> list[str]:
    return [prompt.text or "" for prompt in islice(dataset.prompts(seed, start), count)]


def test_each_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    sequence = asked(numbered(20), 60)
    epochs = [sequence[n : n + 20] for n in (0, 20, 40)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == 20
    assert epochs[0] != epochs[1] != epochs[2]


def test_order_is_a_function_of_the_seed() -> None:
    assert asked(numbered(20), 50, seed=3) == asked(numbered(20), 50, seed=3)
    assert asked(numbered(20), 20, seed=3) != asked(numbered(20), 20, seed=4)
    # Written down: another Python, machine or version of ours must not change what a resumed run sees.
    assert asked(numbered(6), 6, seed=0) == ["p0", "p5", "p1", "p4", "p3", "p2"]


@pytest.mark.parametrize("start", [0, 1, 19, 20, 33, 20_003])
def test_start_skips_what_was_consumed(start: int) -> None:
    dataset = numbered(20)
    expected = asked(dataset, start + 25)[start : start + 25]
    assert asked(dataset, 25, start=start) == expected


def test_kinds_that_are_not_there_are_an_error_at_once() -> None:
    dataset = numbered(3)
    assert dataset.sizes == {"prompts": 3, "demonstrations": 3}
    with pytest.raises(DataError, match="rows has no rankings: it has prompts, demonstrations"):
        dataset.rankings(0)
    with pytest.raises(DataError, match="no texts"):
        dataset.texts(0)


def test_held_out_rows_are_never_trained_on() -> None:
    dataset = numbered(50, held_out=10)
    kept, held = set(asked(dataset, 40)), set(asked(dataset.held_out(), 10))
    assert (len(kept), len(held)) == (40, 10)
    assert not kept & held
    assert dataset.held_out().sizes["prompts"] == 10
    assert set(asked(numbered(50, held_out=10).held_out(), 10)) == held


def test_rows_of_one_prompt_stay_on_one_side() -> None:
    values = [{"prompt": f"p{n % 10}", "completion": f"a{n}"} for n in range(40)]
    dataset = rows(*values, held_out=12)
    assert not set(asked(dataset, 28)) & set(asked(dataset.held_out(), 12))
    with pytest.raises(DataError, match="held_out is 3"):
        rows(*values, held_out=3)


def test_holding_out_nothing_is_none_and_all_is_refused() -> None:
    assert numbered(5).held_out() is None
    with pytest.raises(DataError, match="held_out is 5"):
        numbered(5, held_out=5)


def test_bad_rows_are_an_error_that_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good, bad = {"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": None}
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad, good, {"prompt": 1, "completion": "a"})))
    with pytest.raises(
        DataError,
        match=r"2 of 4 rows are bad: .*a\.jsonl, line 2: `completion` is null; .*line 4: `prompt` should be text, is "
        r"int\. Mend them, or set on_bad_row: skip",
    ):
        FilesDataset(FilesConfig(path=str(path)))
    dataset = FilesDataset(FilesConfig(path=str(path), on_bad_row="skip"))
    assert (dataset.sizes["prompts"], dataset.bad_rows) == (2, 2)


def test_a_data_set_of_bad_rows_alone_is_an_error() -> None:
    with pytest.raises(DataError, match="1 of 1 rows are bad: rows\\[0\\]: `prompt` is empty, more than max_bad_rate"):
        rows({"prompt": " ", "completion": "a"}, on_bad_row="skip")


CONVERSATION = {
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
        {"role": "assistant", "content": "b"},
    ]
}


def weights(messages: tuple[Message, ...] | None) -> list[float]:
    return [m.get("weight", 1.0) for m in messages or () if m["role"] == "assistant"]


def test_turns_all_last_and_each() -> None:
    shown = {
        turns: sorted(islice(dataset.demonstrations(0), dataset.sizes["demonstrations"]), key=lambda row: row.id)
        for turns in ("all", "last", "each")
        for dataset in [rows(CONVERSATION, turns=turns)]
    }
    assert [weights(row.messages) for row in shown["all"]] == [[1.0, 1.0]]
    assert [weights(row.messages) for row in shown["last"]] == [[0.0, 1.0]]
    assert [weights(row.messages) for row in shown["each"]] == [[1.0], [0.0, 1.0]]
    assert [row.id for row in shown["each"]] == ["rows:0#1", "rows:0#3"]


def test_turns_without_weight_stay_untrained() -> None:
    unweighted = {"messages": [{**turn, "weight": 0} for turn in CONVERSATION["messages"]]}
    assert "demonstrations" not in rows(unweighted, turns="each").sizes
    assert "demonstrations" not in rows(unweighted, turns="last").sizes


def test_plain_prompts_may_become_user_turns() -> None:
    dataset = rows({"prompt": "q", "chosen": "good", "rejected": "bad"}, chat=True)
    ranking = next(dataset.rankings(0))
    user = {"role": "user", "content": "q"}
    assert ranking.prompt.messages == (user,)
    assert ranking.prompt.text is None
    assert next(dataset.demonstrations(0)).messages == (user, {"role": "assistant", "content": "good"})


def test_format_columns_and_max_rows() -> None:
    values = [{"frage": f"q{n}", "prompt": "unused", "wert": n} for n in range(5)]
    dataset = rows(*values, columns={"prompt": "frage", "reference": "wert"}, max_rows=2)
    assert dataset.sizes == {"prompts": 2}
    assert {(p.text, p.reference) for p in islice(dataset.prompts(0), 2)} == {("q0", "0"), ("q1", "1")}
    both = {"prompt": "q", "completion": "a"}
    assert rows(both, format="prompt").sizes == {"prompts": 1}
    with pytest.raises(ValidationError, match="Did you mean 'prompt'"):
        RowsConfig(rows=(both,), format="promt")


def test_labelled_rows() -> None:
    dataset = rows(*({"prompt": f"q{n}", "completion": "a", "label": n % 2 == 0} for n in range(4)))
    assert dataset.sizes == {"prompts": 4, "demonstrations": 2, "labelled": 4}
    assert sorted(row.label for row in islice(dataset.labelled(0), 4)) == [False, False, True, True]


def test_corpus_is_all_text_once() -> None:
    dataset = rows({"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert set(dataset.corpus()) == {"q", "good", "bad"}
    assert list(rows({"text": "once"}).corpus()) == ["once"]
    assert sorted(rows(CONVERSATION).corpus()) == ["a", "a", "b", "q", "r"]


def test_importing_the_data_sets_loads_no_torch() -> None:
    import subprocess
    import sys

    heavy = "('torch', 'transformers', 'pyarrow')"
    code = f"import sys, rlhf.data.registration; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
