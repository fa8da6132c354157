"""From turns to rows, ratios and the table; and the names that readers of the JSON rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.throughput import __main__ as program
from benchmarks.throughput import race as races
from benchmarks.throughput.measures import Entry, Measure, Side, measures
from benchmarks.throughput.ours import STAGES, recipe_of
from benchmarks.throughput.race import Row, Settings
from benchmarks.throughput.table import as_table, ratios_of
from benchmarks.throughput.workload import Workload
from rlhf.plugins import load_plugins
from rlhf.recipe import check_parts, load_recipe

WANTED = {
    "grpo_vs_trl_transformers", "grpo_vs_trl_best", "ppo_vs_trl", "sft_vs_trl", "sft_vs_trl_best", "reward_vs_trl",
    "reward_vs_trl_best", "dpo_vs_trl", "dpo_vs_trl_best", "rollout_vs_raw_vllm", "rollout_vs_generate",
}  # fmt: skip


def entry(name: str, side: Side, **task: object) -> Entry:
    return Entry(name, side, "tests.unit.benchmarks.trivial_contender", dict(task))


def measure(*entries: Entry) -> Measure:
    return Measure("m", "tokens/s", 100.0, 2e9, entries, ratio="default", best_ratio="best")


def row(name: str, side: Side, median_s: float | None) -> Row:
    seconds = [] if median_s is None else [median_s]
    rate = None if median_s is None else 100 / median_s
    return Row("m", name, side, "tokens/s", 100.0, seconds, median_s, rate, failed=None if seconds else "it died")


def test_ratios_are_above_one_where_ours_is_faster() -> None:
    rows = [row("a", "ours", 2.0), row("b", "ours too", 1.0), row("c", "peer", 6.0), row("d", "peer too", 3.0)]
    assert ratios_of(measure(), rows) == {"default": 3.0, "best": 3.0}


def test_no_ratio_without_both_sides() -> None:
    rows = [row("a", "ours", 2.0), row("c", "peer", None), row("d", "peer too", 3.0)]
    assert ratios_of(measure(), rows) == {"default": None, "best": 1.5}


def test_the_table_has_a_line_a_row_and_says_what_failed() -> None:
    lines = as_table([row("a", "ours", 2.0), row("c", "peer", 6.0), row("d", "peer too", None)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[2][:5] == ["m", "a", "2.00 [2.00, 2.00]", "50 tokens/s", ""]
    assert cells[3][4] == "3.00"
    assert cells[4][2] == "failed: it died"


def test_the_names_of_all_ratios() -> None:
    names = {name for m in measures() for name in (m.ratio, m.best_ratio) if name}
    assert names >= WANTED
    short = {m.ratio for m in measures() if m.short}
    assert {name for name in WANTED if not name.endswith("_best")} <= short


def test_every_measure_has_both_sides_in_both_forms() -> None:
    for m in measures():
        for entries in (m.entries, [e for e in m.entries if e.short]):
            assert {"ours", "peer"} <= {e.side for e in entries}, m.name
        assert len({e.name for e in m.entries}) == len(m.entries)


@pytest.mark.parametrize("name", STAGES)
def test_our_recipes_are_accepted(name: str, tmp_path: Path) -> None:
    for e in (e for m in measures() for e in m.entries if e.task.get("measure") == name):
        if not e.module.endswith(".ours"):
            continue
        recipe = load_recipe(recipe_of(name, Workload(tmp_path), threads=1), e.task["overrides"])
        plugins = load_plugins(recipe.plugins)
        plugins.require_healthy()
        check_parts(recipe, plugins)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(races, "matrix_peak", lambda threads: 1e11)
    monkeypatch.setattr(races, "copy_bandwidth", lambda threads: 1e10)
    monkeypatch.setattr(Workload, "write", lambda self, big=False: None)
    return Settings(threads=1, short=False, rounds=3, workload=Workload(tmp_path), peers=tmp_path)


def test_a_race_ends_in_rows(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    slow, fast = entry("slow", "peer", seconds=0.1), entry("fast", "ours")
    dying, hopeless = entry("dying", "peer too", dies_at=3), entry("hopeless", "peer too", cannot="not here")
    report = program.run({"m": measure(fast, slow, dying, hopeless)}, settings)

    rows = {found["contender"]: found for found in report["rows"]}
    assert [len(rows[name]["seconds"]) for name in ("fast", "slow", "dying", "hopeless")] == [3, 3, 1, 0]
    assert report["ratios"]["default"] > 2
    assert rows["slow"]["fraction_of_peak"] == pytest.approx(0.02 / rows["slow"]["median_s"])
    assert rows["slow"]["rate"] == pytest.approx(100 / rows["slow"]["median_s"])
    assert rows["fast"]["shares"] == {"generate": 5.0, "train": -3.0, "other": 1.0}
    assert rows["fast"]["idle_share"] < 0.5
    assert "the model fell over" in rows["dying"]["failed"]
    assert rows["hopeless"]["failed"] == "not here"
    assert {"ratios", "rows", "machine", "short", "seconds"} <= report.keys()
    assert {"matrix_flops", "copy_bytes_per_s", "commit", "versions"} <= report["machine"].keys()
    assert "default: " in capsys.readouterr().out


@pytest.mark.parametrize(("side", "code"), [("ours", 1), ("ours too", 1), ("peer", 0)])
def test_only_our_own_failures_count(
    side: Side, code: int, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = measure(entry("broken", side, cannot="not here"))
    monkeypatch.setattr(program, "measures", lambda: (broken,))
    assert program.main(["--json", str(tmp_path / "out.json"), "--only", "m"]) == code
    assert (tmp_path / "out.json").is_file()
