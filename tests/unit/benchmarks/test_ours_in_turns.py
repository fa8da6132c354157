"""A run of ours waits for its turns through nothing but a plugin's hooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.throughput.measures import measures
from benchmarks.throughput.race import Settings, start
from benchmarks.throughput.workload import Workload

TINY = {
    "algorithm.prompts_per_step": 2,
    "algorithm.samples_per_prompt": 2,
    "algorithm.minibatch_size": 4,
    "rollout.max_tokens": 4,
    "rollout.engine": {"type": "transformers"},
}


def test_no_step_before_its_turn(tmp_path: Path) -> None:
    workload = Workload(tmp_path)
    workload.write()
    (grpo,) = (measure for measure in measures() if measure.name == "grpo")
    (ours,) = (entry for entry in grpo.entries if entry.side == "ours")
    tiny = replace(ours, task=ours.task | {"overrides": TINY})
    settings = Settings(threads=1, short=True, rounds=1, workload=workload, peers=tmp_path)
    contender = start(tiny, settings, "test")
    metrics = tmp_path / "runs" / "test-ours" / "metrics.jsonl"
    try:
        contender.wait_ready(120)
        assert not metrics.exists()
        contender.step(120)
        turn = contender.step(120)
        assert len(metrics.read_text().splitlines()) == 2
    finally:
        contender.stop()
    assert {"time/generate", "time/step"} <= turn.figures["metrics"].keys()
    assert (tmp_path / "runs" / "test-ours" / "summary.json").is_file()  # it ended as a run does
