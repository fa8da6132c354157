"""Curation on Ray Data: the same bytes as in one process, also where a worker is killed in the midst of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlhf.data.curation.blocks import Block, plan_blocks
from rlhf.errors import DataError, WorkerDied
from rlhf.runtime.data_jobs.block_runs import Place, run_blocks
from rlhf.runtime.data_jobs.curating import CurateOptions, curate
from rlhf.runtime.data_jobs.job_folder import JobFolder
from rlhf.runtime.data_jobs.lines_source import RowFormat

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    said = [{"prompt": f"Tell tale {n % 90}", "completion": f"In year {n % 90} a fox {n % 90} ran"} for n in range(120)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in said))
    return file


@dataclass(frozen=True)
class Trouble:
    """Work that kills its process at block 2, once or always, or raises there."""

    folder: Path
    kind: str
    stage: str = "trouble"

    def open(self) -> Callable[[Block], dict[str, Any]]:
        def process(block: Block) -> dict[str, Any]:
            met = self.folder / "met"
            if block.number == 2:
                if self.kind == "raises":
                    raise DataError("line 7: a bad row")
                if self.kind == "dies" or not met.exists():
                    met.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return {"number": block.number}

        return process


def test_the_same_bytes_on_ray_and_here(ray_up: None, rows: Path) -> None:
    found = {
        kind: curate(rows, rows.with_name(f"{kind}.jsonl"), CurateOptions(), RowFormat(), Place(kind))
        for kind in ("inline", "ray")
    }
    assert found["inline"].kept == 90
    assert found["inline"].out.read_bytes() == found["ray"].out.read_bytes()
    assert found["inline"].removed_file.read_bytes() == found["ray"].removed_file.read_bytes()


@pytest.mark.parametrize("kind", ["dies once", "dies", "raises"])
def test_a_worker_that_dies_is_replaced_and_not_for_ever(ray_up: None, rows: Path, kind: str) -> None:
    folder = JobFolder(rows.with_name("out.jsonl"), {}, [rows], resume=False)
    blocks = list(plan_blocks(rows, max_lines=20))
    work = Trouble(rows.parent, kind)
    if kind == "dies once":
        assert [told["number"] for told in run_blocks(work, blocks, folder, Place("ray", workers=1))] == list(range(6))
        return
    error, said = (WorkerDied, "died 3 times") if kind == "dies" else (DataError, "line 7: a bad row")
    with pytest.raises(error, match=said):
        list(run_blocks(work, blocks, folder, Place("ray", workers=1)))
