"""A run's result in a notebook: pages inside frames of their own."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from rlhf.evaluation.report import write_report
from rlhf.runtime.result import RunResult
from tests.unit.evaluation.finished_run import HOSTILE, make_run


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = make_run(tmp_path_factory.mktemp("runs") / "one")
    write_report(folder)
    summary = json.loads((folder / "summary.json").read_text())
    return RunResult(folder=folder, summary=summary, model=folder / "ppo" / "model")


def framed(shown: str) -> str:
    """The page inside a frame, which must be one element with nothing outside its attributes."""
    lead, _, rest = shown.partition('srcdoc="')
    source, _, tail = rest.partition('"')
    assert lead == "<iframe sandbox "
    assert tail.count("<") == tail.count(">") - 1 == 1
    return html.unescape(source)


def test_a_cell_that_ends_with_the_result_shows_the_report(result: RunResult) -> None:
    page = framed(result._repr_html_())
    assert page == result.report.read_text(encoding="utf-8")
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in page


def test_plot_shows_the_curves_of_every_stage(result: RunResult) -> None:
    shown = result.plot(height=321)._repr_html_()
    page = framed(shown)
    assert 'height="321"' in shown
    # One of sft, two of the reward model, five of PPO and its 3H.
    assert page.count("<svg") == 1 + 2 + 6
    assert [page.index(f"<h3>{stage}</h3>") for stage in ("sft", "reward", "ppo")]


def test_metrics_are_those_of_all_stages_in_order(result: RunResult) -> None:
    rows = result.metrics
    assert list(dict.fromkeys(row["stage"] for row in rows)) == ["sft", "reward", "ppo"]
    assert len(rows) == 120 + 80 + 60


def test_metrics_of_a_run_of_one_stage_lie_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "policy/loss": 2.0}\n')
    result = RunResult(folder=tmp_path, summary={"stages": [{"name": "sft"}]}, model=tmp_path / "model")
    assert result.metrics == [{"step": 1, "policy/loss": 2.0}]
