"""report.html: self-contained, escaped, complete where the run is, and honest where it is not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlhf.errors import DataError
from rlhf.evaluation.curves import MAIN, MORE, main_curves, more_curves
from rlhf.evaluation.held_out import held_out_figures
from rlhf.evaluation.page.render import duration_text, figure_text, signed_text
from rlhf.evaluation.plots import Line, curves
from rlhf.evaluation.report import curves_page, write_comparison_report, write_report
from rlhf.evaluation.run_folder import read_run
from rlhf.evaluation.samples import along_the_way, fallen, first_of_each_axis
from rlhf.evaluation.three_h import axis_rows
from rlhf.evaluation.warnings import warnings_of
from tests.unit.evaluation.finished_run import make_run

VOID = {"meta", "br", "img", "hr", "link", "input"}
LOADS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}


class Page(HTMLParser):
    """Parses a page strictly: unclosed or crossed elements, and anything it would load, are collected."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"never closed: {tag}" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADS and not (value or "").startswith("#")]
        self.faults += [f"handler {name}" for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> does not close what is open")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.faults == []
    return page


@pytest.fixture(scope="module")
def finished_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a finished pipeline."""
    return page_of(write_report(make_run(tmp_path_factory.mktemp("runs") / "quickstart")))


def test_the_page_is_well_formed_and_loads_nothing(finished_run: Path) -> None:
    path = write_report(finished_run)
    assert path == finished_run / "report.html"
    page = page_of(path)
    text = path.read_text(encoding="utf-8")
    assert page.loads == []
    assert "@import" not in text
    assert text.count("url(") == text.count("url(#")
    assert "script" not in page.tags
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_hostile_text_is_shown_and_not_run(small_run: Path) -> None:
    page = page_of(write_report(small_run))
    assert "<script>alert('x')</script> & <b>bold</b> </td>" in page.text
    # A hole would add elements: the same run with a tame prompt has just as many.
    rows = small_run / "evaluation" / "before.jsonl"
    for name in ("before", "after"):
        rows = small_run / "evaluation" / f"{name}.jsonl"
        lines = [json.loads(line) for line in rows.read_text().splitlines()]
        lines[0]["prompt"] = "tame"
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert page_of(write_report(small_run)).tags == page.tags


def test_hostile_names_do_not_break_the_page(finished_run: Path) -> None:
    odd = finished_run.with_name('<i>"run" & $x$')
    finished_run.rename(odd)
    metrics = odd / "ppo" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("mine/politeness", "mine/<b>&$x^$"))
    (odd / "ppo").rename(odd / "<u>ppo&")
    page = page_of(write_report(odd))
    assert '<i>"run" & $x$' in page.text
    assert "mine/<b>&$x^$" in page.text
    assert "u" not in page.tags


def test_the_same_files_give_the_same_bytes(small_run: Path) -> None:
    first = write_report(small_run).read_bytes()
    assert write_report(small_run).read_bytes() == first


def test_it_says_what_ran_and_what_went_wrong(finished_page: Page) -> None:
    text = finished_page.text
    for part in (
        "sft → reward → ppo", "3 min 3 s", "seed 0", "3f9a1c5d7e2b", "torch 2.13.0", "# the resolved recipe",
        "mean of the three",
        "Stage 'sft': 3 rows dropped", "Stage 'ppo': 2 rollouts whose reward failed",
        "Stage 'ppo': value/loss was not a number in 1 of 60 steps.",
        "Evaluation 'after': 1 of 240 grades failed; they are not in the means.",
        "Stage 'ppo': 12% of the completions were cut at max_tokens.",
        "Where the score fell most", "judge timed out", "(empty)", "cut at max_tokens",
    ):  # fmt: skip
        assert part in text, part


def test_held_out_figures_stand_before_and_after_with_their_intervals(finished_page: Page) -> None:
    text = finished_page.text
    assert "pairs ranked right 0.500 0.440 to 0.560 0.914 0.873 to 0.943 256" in text
    assert "baseline: the longer answer wins 0.568 0.520 to 0.617 0.568 0.520 to 0.617 256" in text
    assert "ppo reward −0.0200 −0.100 to 0.0600 0.743 0.678 to 0.805 256" in text
    # Zero on every row: the policy was its reference, which is no estimate of anything.
    assert "KL to the reference, nats a completion 0 0.516 0.453 to 0.581 256" in text


@pytest.mark.parametrize("held_out", [None, 3, {"before": 1}, {"after": {"loss": 2.0}}, {"after": {"loss": {}}}])
def test_what_is_no_held_out_figure_is_not_shown(held_out: object) -> None:
    assert held_out_figures("sft", {"held_out": held_out}) == []


def test_a_plugins_held_out_figure_goes_by_its_name() -> None:
    [figure] = held_out_figures("mine", {"held_out": {"after": {"my_score": {"mean": 1.5, "n": 7}}}})
    assert (figure.title, figure.before, figure.n) == ("my score", None, 7)


def test_only_key_figures_are_in_sight(finished_page: Page) -> None:
    assert "policy/loss 0.61 2 more tokens/seen 9,000 policy/lr 0.25" in finished_page.text


def test_a_run_that_goes_on_shows_its_last_step(finished_run: Path) -> None:
    (finished_run / "summary.json").unlink()
    for stage in ("reward", "ppo"):
        shutil.rmtree(finished_run / stage)
    (finished_run / "sft" / "summary.json").unlink()
    (finished_run / "recipe.yaml").write_text("stages: {sft: {algorithm: {type: sft}}}")
    text = page_of(write_report(finished_run)).text
    assert "No summary.json: the run goes on or was cut short; figures are those of the last step logged." in text
    assert "sft sft 120 48 s policy/loss 0.6" in text


def test_monitors_are_drawn_together(finished_run: Path) -> None:
    [ppo] = [stage for stage in read_run(finished_run).stages if stage.name == "ppo"]
    [drawn] = [curve for curve in main_curves("ppo", {"": ppo.metrics}) if curve.metric == "gold/*"]
    assert drawn.title == "3H over steps"
    assert all(f">{axis}<" in drawn.svg for axis in ("helpful", "honest", "harmless"))
    assert not [curve for curve in more_curves("ppo", {"": ppo.metrics}) if curve.metric.startswith("gold/")]


def test_a_flat_curve_stands_on_an_axis_with_zero() -> None:
    def ticks(value: float) -> list[float]:
        svg = curves([Line("", [1, 2, 3], [value] * 3)], unit="share", description="flat")
        texts = re.findall(r">([\u2212\d.]+)</text>", svg)
        return [float(text.replace("\u2212", "-")) for text in texts][3:]  # after those of the steps

    assert (min(ticks(0.0)), max(ticks(0.0))) == (0.0, 1.0)
    assert (min(ticks(2.0)), max(ticks(2.0))) == (0.0, 4.0)
    assert (min(ticks(-2.0)), max(ticks(-2.0))) == (-4.0, 0.0)


def test_figures_of_every_run_have_titles_and_headings_stand_apart(finished_run: Path) -> None:
    for name in ("policy/updates", "policy/skipped", "reward/failed"):
        [drawn] = more_curves("ppo", {"": [{"step": 1, name: 0.0}]})
        assert drawn.title != name
    summary = json.loads((finished_run / "summary.json").read_text())
    summary["stages"][1]["algorithm"] = "reward_model"
    (finished_run / "summary.json").write_text(json.dumps(summary))
    text = page_of(write_report(finished_run)).text
    assert "reward: reward_model" in text
    assert "3f9a1c5d7e2b48a0" in text


def test_counts_since_the_beginning_are_not_added_up(finished_run: Path) -> None:
    metrics = finished_run / "sft" / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(row | {"data/cut": min(5.0, row["step"])}) + "\n" for row in rows))
    assert "Stage 'sft': 5 rows cut to the longest length." in warnings_of(read_run(finished_run))


def test_skipped_rows_are_warned_of(finished_run: Path) -> None:
    (finished_run / "sft" / "metrics.jsonl").write_text(json.dumps({"step": 1, "data/bad_rows": 2.0}) + "\n")
    said = "Stage 'sft': 2 rows skipped because something was wrong with them (`on_bad_row: skip`)."
    assert said in warnings_of(read_run(finished_run))


def test_a_clean_stage_raises_no_warning(finished_run: Path) -> None:
    clean = {"step": 1, "reward/failed": 0.0, "data/dropped": 0.0, "data/cut": 0.0, "rollout/truncated": 0.09}
    for stage in ("sft", "reward", "ppo"):
        (finished_run / stage / "metrics.jsonl").write_text(json.dumps(clean) + "\n")
    shutil.rmtree(finished_run / "evaluation")
    assert warnings_of(read_run(finished_run)) == []


def test_early_and_late_answers_to_one_prompt_stand_side_by_side(finished_run: Path) -> None:
    [ppo] = [stage for stage in read_run(finished_run).stages if stage.name == "ppo"]
    found = along_the_way(ppo)
    assert [(first["step"], last["step"]) for first, last in found.pairs] == [(1, 60)] * 5
    assert all(first["prompt"] == last["prompt"] for first, last in found.pairs)
    shutil.rmtree(finished_run / "evaluation")
    assert "Rollouts of ppo early and late answers to the same prompts" in page_of(write_report(finished_run)).text


def test_where_no_prompt_comes_back_both_ends_are_shown(finished_run: Path) -> None:
    path = finished_run / "ppo" / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"prompt_id": f"{row['step']}/{i}"}) + "\n" for i, row in enumerate(rows)))
    [ppo] = [stage for stage in read_run(finished_run).stages if stage.name == "ppo"]
    found = along_the_way(ppo)
    assert not found.pairs
    assert [row["step"] for row in found.ends] == [1] * 5 + [60] * 5


def test_every_logged_figure_is_drawn(finished_page: Page) -> None:
    page = finished_page
    # sft 1 + 2; reward 2 + 1; ppo 5 + 3H, and 6 more with the plugin's own; the table's plot.
    assert page.tags.count("svg") == 3 + 3 + 6 + 6 + 1
    assert "mine/politeness" in page.text
    assert "time/step" not in page.text


def test_the_table_holds_the_figures_of_the_summary(finished_run: Path) -> None:
    run = read_run(finished_run)
    rows = {row.name: row for row in axis_rows(run)}
    assert list(rows) == ["helpful", "honest", "harmless", "mean of the three"]
    before = run.summary["before"]
    honest = rows["honest"].estimates["before"]
    assert (honest.value, honest.low, honest.n) == (before["honest"], before["honest"] - 0.1, 80)
    # The summary lacks the intervals of `after`: they come from the graded rows, Wilson's for scores of 0 and 1.
    after = rows["helpful"].estimates["after"]
    assert after.low < run.summary["after"]["helpful"] < after.high
    mean = rows["mean of the three"]
    assert mean.estimates["before"].value == pytest.approx(sum(before.values()) / 3)
    assert mean.difference is not None
    gain = sum(run.summary["after"].values()) / 3 - sum(before.values()) / 3
    assert mean.difference.value == pytest.approx(gain)
    assert mean.difference.low > 0.1


def test_samples_are_the_first_and_the_fallen(finished_run: Path) -> None:
    run = read_run(finished_run)
    pairs = first_of_each_axis(run)
    assert [pair.axis for pair in pairs] == ["helpful"] * 6 + ["honest"] * 6 + ["harmless"] * 6
    assert all(len(pair.answers) == 2 for pair in pairs)
    for pair in fallen(run):
        before, after = pair.answers
        assert before is not None
        assert after is not None
        assert after["score"] < before["score"]


def test_long_texts_fold(small_run: Path) -> None:
    text = write_report(small_run).read_text(encoding="utf-8")
    assert "<details><summary>so so" in text
    assert "so " * 400 in text


def test_a_single_stage_without_evaluation(finished_run: Path, tmp_path: Path) -> None:
    single = tmp_path / "only-ppo"
    shutil.copytree(finished_run / "ppo", single)
    page = page_of(write_report(single))
    assert "Missing: no 3H evaluation." in page.text
    assert "Rollouts of ppo early and late answers" in page.text
    assert page.tags.count("svg") == 12


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("summary.json", "No summary.json: the run goes on or was cut short"),
        ("recipe.yaml", "recipe.yaml is missing"),
        ("evaluation/before.jsonl", ""),
        ("evaluation", ""),
        ("sft/metrics.jsonl", ""),
        ("sft/summary.json", ""),
    ],
)
def test_what_is_missing_is_said_and_nothing_crashes(small_run: Path, gone: str, said: str) -> None:
    path = small_run / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert said in page_of(write_report(small_run)).text


def test_without_graded_rows_the_summary_still_fills_the_table(small_run: Path) -> None:
    shutil.rmtree(small_run / "evaluation")
    rows = {row.name: row for row in axis_rows(read_run(small_run))}
    assert rows["helpful"].difference is not None
    text = page_of(write_report(small_run)).text
    assert "nan" not in text.lower().replace("mean", "")
    assert f"{rows['helpful'].estimates['after'].value:.2f}" in text


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{", b"\xff\xfe\x00", b'{"stages": {"a": 1}, "before": 3}'])
def test_a_damaged_summary_is_said(small_run: Path, content: bytes) -> None:
    (small_run / "summary.json").write_bytes(content)
    text = page_of(write_report(small_run)).text
    assert "sft" in text


def test_damaged_lines_are_left_out_and_said(small_run: Path) -> None:
    metrics = small_run / "sft" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    lines[4] = lines[4][:20]
    metrics.write_text("\n".join(lines)[:-10])  # and the last is cut, as by a kill: no fault
    run = read_run(small_run)
    assert len(run.stages[0].metrics) == 118
    assert [w for w in warnings_of(run) if "metrics.jsonl" in w] == [
        "sft/metrics.jsonl: line 5 is not a JSON object and was left out."
    ]
    page_of(write_report(small_run))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a run folder"):
        write_report(tmp_path)


def test_runs_are_compared_on_one_page(make_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [make_finished_run("a/ppo"), make_finished_run("b/ppo", seed=1, gain=0.0), make_finished_run("control", 2)]
    path = write_comparison_report(runs, tmp_path / "out" / "compare.html")
    page = page_of(path)
    assert "3 runs compared" in page.text
    assert "18 warnings" in page.text
    # Two folders of one name are told apart, in the table and in every legend.
    assert page.text.count("a/ppo") > 8
    assert page.text.count("b/ppo") > 8
    assert page.loads == []
    # The plot of scores; loss of sft; two of the reward model; five of ppo; the 3H of each run.
    assert page.tags.count("svg") == 1 + 1 + 2 + 5 + 3


def test_held_out_figures_are_compared_too(make_finished_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [make_finished_run("one"), make_finished_run("two")]
    for run in runs:
        for stage in ("sft", "reward", "ppo"):
            (run / stage / "metrics.jsonl").write_text("")
        shutil.rmtree(run / "evaluation")
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({"stages": summary["stages"]}))
    text = page_of(write_comparison_report(runs, tmp_path / "compare.html")).text
    assert "reward pairs ranked right 0.914 0.873 to 0.943 0.914 0.873 to 0.943 baseline" in text
    assert "Helpful, honest, harmless" not in text


def test_a_run_given_twice_is_refused(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="given twice"):
        write_comparison_report([finished_run, finished_run / "."], tmp_path / "compare.html")


def test_the_curves_alone_make_a_page(small_run: Path) -> None:
    page = Page(curves_page(small_run))
    assert page.faults == page.loads == []
    assert page.tags.count("svg") == 1
    assert "policy/loss" in page.text


def test_every_drawn_metric_is_explained(repo_root: Path) -> None:
    table = (repo_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in (*MAIN, *MORE) if f"`{name}`" not in table] == []


def test_figures_are_written_plainly() -> None:
    assert [figure_text(v) for v in (0.61234, -2.0, 1234.5, 7, 1e-5, True, [0.1, 0.2], "x")] == [
        "0.612", "−2", "1,234", "7", "1.0e−05", "True", "[0.1, 0.2]", "x",
    ]  # fmt: skip
    assert [duration_text(v) for v in (None, 3.21, 59, 200, 7300)] == ["–", "3.2 s", "59 s", "3 min 20 s", "2 h 1 min"]
    assert [signed_text(v) for v in (0.3, -0.2)] == ["+0.30", "−0.20"]
