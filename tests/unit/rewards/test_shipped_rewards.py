"""All rewards that judge by rules: the promises of the contract, and the page that shows them."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.config import RESERVED_OPTIONS
from rlhf.registry import Registry

RULES: list[tuple[str, dict[str, Any]]] = [
    ("exact_match", {"ignore_case": True, "ignore_punctuation": True}),
    ("regex_match", {"pattern": r"\d+"}),
    ("numeric_match", {"percent": "divide"}),
    ("format", {"tags": ["think", "answer"]}),
    ("format", {"pattern": "[^a]*"}),
    ("length", {"max_tokens": 6, "min_tokens": 1, "buffer": 2}),
    ("repetition", {"n": 2}),
    ("repetition", {"n": 1, "unit": "words"}),
    ("json_schema", {"inline": {"type": "integer"}}),
]
# Keys of the recipe's reward table, which no reward may take for itself.
TEXTS = st.one_of(
    st.text(),
    st.sampled_from(["", "7", "7%", "<think>a</think><answer>7</answer>", "a a a", "\x00", "\ud83d", "٧", "{}" * 99]),
)


@pytest.mark.parametrize(("name", "options"), RULES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(RULES)])
@given(texts=st.lists(TEXTS, max_size=8), order=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_row_is_judged_by_itself(
    build: Any, rollout: Any, name: str, options: dict[str, Any], texts: list[str], order: Any
) -> None:
    rows = [rollout(text, "7", tokens=[ord(letter) for letter in text]) for text in texts]
    reward = build(name, **options)
    together = list(reward(rows))
    assert together == [answer for row in rows for answer in reward([row])]
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    assert list(build(name, **options)([rows[n] for n in shuffled])) == [together[n] for n in shuffled]


@pytest.mark.parametrize(("name", "options"), RULES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(RULES)])
def test_long_completions_cost_no_more_than_their_length(
    build: Any, rollout: Any, name: str, options: dict[str, Any]
) -> None:
    text = "<think>7,777 [{ " * 20_000
    row = rollout(text, "7", tokens=range(len(text)))
    reward = build(name, **options)
    reward([rollout("a", "7")])  # what is imported on first use
    start = time.process_time()
    reward([row])
    assert time.process_time() - start < 5  # quadratic would be minutes


def test_no_option_takes_a_name_of_the_reward_table(registry: Registry) -> None:
    configs = {entry.name: entry.config for entry in registry.entries() if entry.config is not None}
    assert {"remote", *(name for name, _ in RULES)} <= configs.keys()
    assert {name for name, config in configs.items() if RESERVED_OPTIONS & set(config.model_fields)} == set()


@pytest.mark.parametrize(("name", "options"), RULES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(RULES)])
def test_options_travel_to_another_process(registry: Registry, name: str, options: dict[str, Any]) -> None:
    config = registry.check("reward", name, options)
    assert pickle.loads(pickle.dumps(config)) == config


def test_the_page_shows_a_recipe_line_of_each_that_works(
    registry: Registry, repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "invoice.schema.json").write_text('{"type": "object"}')
    page = (repo_root / "docs" / "rewards.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(line) for line in re.findall(r"`(\{type: .*?\})`", page)]
    for line in shown:
        registry.check(
            "reward", line.pop("type"), {key: value for key, value in line.items() if key not in RESERVED_OPTIONS}
        )
    names = set(registry.names("reward"))
    assert {name for name in names if f"| `{name}` |" in page} == names


def test_registering_them_loads_nothing_heavy() -> None:
    heavy = ["transformers", "regex", "jsonschema", "referencing"]
    code = f"import sys, rlhf.rewards.registration\nprint([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
