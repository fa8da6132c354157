"""clusters/slurm/rlhf.sbatch under a Slurm: its options are taken, its signals come, and it is queued again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.clusters.real_slurm import slurm_up, why_not
from tests.unit.clusters.slurm_stand_in import StandIn
from tests.unit.clusters.test_slurm_script import SCRIPT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="half a minute; with RLHF_TEST_EVERY_METHOD=1"
    ),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be started"),
]


class Job:
    """A job of the script, whose Ray and rlhf are stand-ins, and whose Slurm is none."""

    def __init__(self, slurm: dict[str, str], folder: Path) -> None:
        self.stand_in = StandIn(folder, SCRIPT)
        for name in ("srun", "scontrol"):
            (folder / "bin" / name).unlink()
        self._environment = slurm | self.stand_in.environment

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.stand_in.folder, env=self._environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def state(self, number: str) -> str:
        return self.ask("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={number}")

    def begin_now(self, number: str) -> None:
        """Slurm itself lets two minutes pass."""
        if self.state(number) == "PENDING":
            self.ask("scontrol", "update", f"JobId={number}", "StartTime=now")

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, (self.stand_in.said, self.ask("scontrol", "show", "jobs"))
            time.sleep(0.2)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    (tmp_path / "job").mkdir()
    with slurm_up(tmp_path / "slurm") as slurm:
        yield Job(slurm, tmp_path / "job")


def test_it_saves_before_its_time_is_up_is_queued_again_goes_on_and_can_be_stopped(job: Job) -> None:
    said = job.stand_in.of
    # 100 s before the end of two minutes; Slurm looks at that once in a while, and so may be early.
    number = job.ask("sbatch", "--parsable", "--time=2", "--signal=B:USR1@100", str(SCRIPT), "my.yaml", "seed=1")
    job.until(lambda: "rlhf has USR1" in job.stand_in.said)
    job.until(lambda: job.state(number) == "PENDING")
    time.sleep(3)  # what revokes the old start must be older than the new one
    job.until(lambda: len(said("waiting")) == 2 or job.begin_now(number))
    out = job.stand_in.folder / "runs" / f"slurm-{number}"
    command = f"rlhf train my.yaml seed=1 --address auto --out {out}"
    assert [line for line in said("rlhf") if "train" in line] == [command, f"{command} --resume"]
    assert [line.endswith(" -- token 600 64") for line in said("ray")] == [True, True]
    job.ask("scancel", "--batch", "--signal=TERM", number)
    job.until(lambda: job.state(number) == "FAILED")
    assert "ExitCode=143:0" in job.ask("scontrol", "show", "job", number)
    assert "rlhf has TERM" in job.stand_in.said
    assert not list((job.stand_in.folder / ".rlhf").iterdir())


def test_the_job_ends_as_its_run(job: Job) -> None:
    number = job.ask("env", "EXIT=0", "sbatch", "--parsable", str(SCRIPT), "my.yaml")
    job.until(lambda: job.state(number) == "COMPLETED")
    number = job.ask("env", "EXIT=1", "sbatch", "--parsable", str(SCRIPT), "my.yaml")
    job.until(lambda: job.state(number) == "FAILED")
    assert "ExitCode=1:0" in job.ask("scontrol", "show", "job", number)
