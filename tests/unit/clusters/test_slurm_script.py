"""clusters/slurm/rlhf.sbatch beside a stand-in for Slurm, and under a real one where that is installed.

Debian: `apt install slurm-wlm`; the test starts daemons of its own, on the loopback, and needs root as slurmd does.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.clusters.slurm_stand_in import StandIn

SCRIPT = Path(__file__).resolve().parents[3] / "clusters" / "slurm" / "rlhf.sbatch"


@pytest.fixture
def slurm(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path, SCRIPT)


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signalled(slurm: StandIn, number: signal.Signals) -> tuple[int, str]:
    """The exit code and output of a job that is sent a signal while its run is at work."""
    job = slurm.start("my.yaml")
    until(lambda: "waiting" in slurm.said)
    job.send_signal(number)
    printed, _ = job.communicate(timeout=30)
    return job.returncode, printed


def test_a_run_is_started_on_all_nodes_with_a_token_of_its_own(slurm: StandIn) -> None:
    code, printed = slurm.finished("my.yaml", "ppo.algorithm.steps=3", "name=a b", ends=0, nodes=2)
    assert code == 0, printed
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1" in slurm.of("srun")[0]
    assert len(slurm.of("ray")) == 2
    for line in slurm.of("ray"):
        assert re.search(r"^ray symmetric-run --address \d+\.\d+\.\d+\.\d+:24711 --min-nodes 2 -- ", line)
        assert line.endswith(" -- token 600 64")
    out = slurm.folder / "runs" / "slurm-4711"
    assert slurm.of("rlhf") == [f"rlhf train my.yaml ppo.algorithm.steps=3 name=a b --address auto --out {out}"]
    assert not list((slurm.folder / ".rlhf").iterdir()), "the token is gone"
    assert slurm.of("scontrol") == []


def test_when_its_time_is_nearly_up_it_saves_and_is_queued_again_and_goes_on(slurm: StandIn) -> None:
    code, printed = signalled(slurm, signal.SIGUSR1)
    assert code == 138
    assert "rlhf has USR1" in slurm.said
    assert slurm.of("scontrol") == ["scontrol requeue 4711"]
    assert "queued again, to go on in" in printed
    assert not list((slurm.folder / ".rlhf").iterdir())
    assert slurm.finished("my.yaml", ends=0)[0] == 0
    assert [line.endswith(" --resume") for line in slurm.of("rlhf") if "train" in line] == [False, True]


def test_when_it_is_told_to_stop_it_saves_and_is_not_queued_again(slurm: StandIn) -> None:
    code, _ = signalled(slurm, signal.SIGTERM)
    assert code == 143
    assert "rlhf has TERM" in slurm.said
    assert slurm.of("scontrol") == []


@pytest.mark.parametrize("ends", [1, 2])
def test_a_run_that_fails_fails_the_job_with_its_own_code(slurm: StandIn, ends: int) -> None:
    assert slurm.finished("my.yaml", ends=ends)[0] == ends
    assert slurm.of("scontrol") == []


def test_without_a_recipe_or_an_environment_it_says_so(slurm: StandIn) -> None:
    code, printed = slurm.finished(ends=0)
    assert "sbatch rlhf.sbatch RECIPE" in printed
    assert code != 0
    (slurm.folder / "bin" / "rlhf").unlink()
    job = subprocess.run(
        ["/bin/bash", str(SCRIPT), "my.yaml"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (job.returncode, job.stderr) == (2, "error: no rlhf here: activate its environment, then sbatch\n")


def test_slurm_is_asked_for_a_warning_to_the_script_alone_and_to_queue_it_again() -> None:
    asked = re.findall(r"^#SBATCH (\S+)$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"--signal=B:USR1@600", "--requeue", "--exclusive", "--ntasks-per-node=1"} <= set(asked)
