"""Mixtures: exact shares, deterministic, resumable, and built from the parts a recipe names."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from rlhf.config import PartConfig
from rlhf.data.dataset import FilesConfig, RowsConfig, RowsDataset
from rlhf.data.mixture import MixtureConfig, MixtureDataset
from rlhf.data.registration import mixture, register_datasets
from rlhf.errors import ConfigError, DataError


def source(name: str, count: int, share: float, **options: Any) -> dict[str, Any]:
    return {"type": "rows", "rows": [{"text": f"{name}{n}"} for n in range(count)], "share": share, **options}


def mixed(*sources: dict[str, Any]) -> MixtureDataset:
    return mixture(MixtureConfig.model_validate({"sources": sources}))


def test_shares_hold_to_within_a_row_at_every_point() -> None:
    sequence = list(islice(mixed(source("new", 7, 0.9), source("old", 30, 0.1)).texts(0), 500))
    for length in range(1, 501):
        old = sum(text.startswith("old") for text in sequence[:length])
        assert abs(old - 0.1 * length) <= 1


def test_shares_are_relative_and_three_sources_mix() -> None:
    sequence = list(islice(mixed(source("a", 5, 6), source("b", 5, 3), source("c", 5, 1)).texts(0), 1000))
    assert [sum(text.startswith(name) for text in sequence) for name in "abc"] == [600, 300, 100]


@pytest.mark.parametrize("start", [0, 1, 9, 10, 137])
def test_start_resumes(start: int) -> None:
    dataset = mixed(source("new", 7, 0.7), source("old", 5, 0.3))
    assert list(islice(dataset.texts(1, start), 40)) == list(islice(dataset.texts(1), start + 40))[start:]


def test_sizes_are_of_kinds_all_sources_have() -> None:
    pairs = {"type": "rows", "rows": [{"prompt": "q", "completion": "a"}], "share": 1}
    assert mixed(source("a", 3, 1), source("b", 4, 1)).sizes == {"texts": 7, "demonstrations": 7}
    dataset = mixed(source("a", 3, 1), pairs)
    assert dataset.sizes == {"demonstrations": 4}
    with pytest.raises(DataError, match="not every source of the mixture has texts; kinds they have in common: demon"):
        dataset.texts(0)


def test_held_out_comes_from_the_sources_that_keep_some() -> None:
    dataset = mixed(source("new", 10, 0.9, held_out=2), source("old", 10, 0.1))
    assert dataset.sizes["texts"] == 18
    held = dataset.held_out()
    assert held.sizes["texts"] == 2
    assert not set(islice(held.texts(0), 2)) & set(islice(dataset.texts(0), 100))
    assert mixed(source("a", 3, 1)).held_out() is None


def test_mixtures_nest() -> None:
    inner = {"type": "mixture", "share": 1, "sources": [source("a", 3, 1), source("b", 3, 1)]}
    sequence = list(islice(mixed(inner, source("c", 3, 1)).texts(0), 40))
    assert [sum(text.startswith(name) for text in sequence) for name in "abc"] == [10, 10, 20]


def test_options_of_sources_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"mixture source 'rows'.*heldout.*Did you mean 'held_out'"):
        mixed(source("a", 3, 1, heldout=2))
    with pytest.raises(ConfigError, match="Did you mean 'files'"):
        mixed({"type": "file", "share": 1})


def test_registered_under_their_names() -> None:
    seen: dict[str, tuple[Any, type[PartConfig]]] = {}

    def register(name: str, factory: Any, *, config: Any = None) -> None:
        seen[name] = (factory, config)

    register_datasets(register)
    assert {name: config for name, (_, config) in seen.items()} == {
        "files": FilesConfig,
        "rows": RowsConfig,
        "mixture": MixtureConfig,
    }
    factory, config = seen["rows"]
    assert isinstance(factory(config(rows=({"text": "x"},))), RowsDataset)


def test_skipped_rows_of_all_sources_are_counted() -> None:
    broken = [{"text": "good"}, {"text": " "}, {"text": ""}]
    skipping = {"on_bad_row": "skip", "max_bad_rate": 0.7}
    sources = [{"type": "rows", "rows": broken, "share": 1, **skipping} for _ in range(2)]
    assert mixed(*sources).bad_rows == 4
    assert mixed(source("new", 3, 1)).bad_rows == 0


def test_rows_of_files_of_one_name_are_told_apart() -> None:
    """Samples are compared within a prompt, which is known by its id."""
    twins = [{"type": "rows", "rows": [{"prompt": name, "chosen": "a", "rejected": "b"}], "share": 1} for name in "xy"]
    dataset = mixed(*twins)
    assert {row.text: row.id for row in islice(dataset.prompts(0), 2)} == {"x": "0/rows:0", "y": "1/rows:0"}
    assert len({row.prompt.id for row in islice(dataset.rankings(0), 2)}) == 2
    assert len({row.id for row in islice(dataset.demonstrations(0), 2)}) == 2
