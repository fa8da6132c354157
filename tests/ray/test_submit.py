"""`rlhf submit` against a real head node of its own: `ray start --head`, token authentication on."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
POCKET = {"type": "pocket", "num_demonstrations": 60, "num_prompts": 30, "num_rankings": 0, "num_held_out": 9}
RECIPE = {
    "name": "sent",
    "runtime": {"type": "inline"},
    "trackers": [],
    "plugins": {"paths": ["watcher.py"]},
    "algorithm": {"type": "sft", "batch_size": 4, "steps": 2},
    "model": {
        "new": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "context": 64, "tokenizer": {"type": "words"}}
    },
    "data": POCKET,
    "held_out_rows": 0,
}
WATCHER = """
import os
from rlhf import hookimpl

@hookimpl
def on_run_start(stage, recipe, folder):
    print("sent with the job:", sorted(os.listdir(".")), "secret:", os.environ.get("MY_SECRET"), flush=True)
"""


@dataclass(frozen=True)
class Cluster:
    """A head node, and the folder its user calls home."""

    url: str
    environment: dict[str, str]
    home: Path

    def rlhf(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """The command line, in `folder`, as someone with a secret in the environment."""
        return subprocess.run(
            [sys.executable, "-m", "rlhf", *words],
            cwd=folder,
            env=self.environment | {"MY_SECRET": "not to be sent"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Ray's socket paths must be short, so not in pytest's own folder.
    scratch = Path(tempfile.mkdtemp(prefix="ray"))
    token = scratch / "auth_token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    home = scratch / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    port = _free_port()
    command = ["ray", "start", "--head", "--block", "--port=0", "--num-cpus=2", "--object-store-memory=100000000"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={scratch / 'ray'}"]
    # Jobs go through the node's agent, whose usual port belongs to whichever cluster of this machine came first.
    command += [f"--dashboard-agent-listen-port={_free_port()}"]
    command[0] = str(Path(sys.executable).with_name("ray"))
    with (scratch / "head.log").open("w") as log:
        # A session of its own: stopping it stops this cluster and no other on the machine.
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(port, head, scratch / "head.log")
        yield Cluster(f"http://127.0.0.1:{port}", environment, home)
    finally:
        _stop(head)
        shutil.rmtree(scratch, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and head.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    pytest.fail(f"the head did not come up: {log.read_text()[-2000:]}")


def _stop(head: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(timeout=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe, its plugin, and things that are nobody's business."""
    (tmp_path / "sent.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "watcher.py").write_text(WATCHER)
    (tmp_path / ".env").write_text("MY_SECRET=1")
    (tmp_path / ".git").mkdir()
    (tmp_path / "data.bin").write_bytes(b"\0" * 1000)
    return tmp_path


def test_job_runs_and_is_followed(cluster: Cluster, folder: Path) -> None:
    done = cluster.rlhf("submit", "sent.yaml", "algorithm.steps=3", "--address", cluster.url, "--follow", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[sft] 3/3" in done.stdout
    assert "sent with the job: ['recipe.yaml', 'watcher.py'] secret: None" in done.stdout
    assert "ray job submit --address" in done.stderr
    assert "not to be sent" not in done.stdout + done.stderr
    (job,) = [path.name for path in (folder / "runs" / "submitted").iterdir()]
    summary = json.loads((cluster.home / "runs" / job / "summary.json").read_text())
    assert summary["stages"][0]["steps"] == 3

    listed = cluster.rlhf("jobs", "list", "--address", cluster.url, folder=folder)
    assert f"{job}  SUCCEEDED" in listed.stdout
    log = cluster.rlhf("jobs", "logs", job, "--address", cluster.url, folder=folder)
    assert "[sft] 3/3" in log.stdout
    over = cluster.rlhf("jobs", "stop", job, "--address", cluster.url, folder=folder)
    assert over.stdout == f"{job}: was over (succeeded)\n"


def test_failed_job_is_one_with_its_cause_first(cluster: Cluster, folder: Path) -> None:
    (folder / "watcher.py").write_text(WATCHER + "    raise OSError('the disk of the cluster')\n")
    done = cluster.rlhf("submit", "sent.yaml", "--address", cluster.url, "--follow", folder=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("failed: OSError: the disk of the cluster")
    assert "job sent-" in last


def test_recipe_the_cluster_refuses_is_one_with_its_cause(cluster: Cluster, folder: Path) -> None:
    done = cluster.rlhf("submit", "sent.yaml", "algorithm.epoks=3", "--address", cluster.url, "--follow", folder=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("failed: algorithm.epoks: unknown key. Did you mean 'epochs'?")


def test_stopped_job_saves_before_it_ends(cluster: Cluster, folder: Path) -> None:
    words = ["submit", "sent.yaml", "algorithm.steps=100000", "--address", cluster.url, "--out", "~/long"]
    job = cluster.rlhf(*words, folder=folder).stdout.strip()
    deadline = time.monotonic() + 120
    metrics = cluster.home / "long" / "metrics.jsonl"
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.5)
    stopped = cluster.rlhf("jobs", "stop", job, "--address", cluster.url, folder=folder)
    assert stopped.stdout == f"{job}: stopping\n"
    done = cluster.rlhf("jobs", "logs", job, "--follow", "--address", cluster.url, folder=folder)
    assert done.returncode == 1
    assert "stopped after step" in done.stderr.splitlines()[-1]
    assert list((cluster.home / "long" / "checkpoints").glob("step-*/manifest.json"))


def test_bad_input_never_reaches_the_cluster(cluster: Cluster, folder: Path) -> None:
    before = cluster.rlhf("jobs", "list", "--address", cluster.url, folder=folder).stdout
    (folder / "watcher.py").unlink()
    missing = cluster.rlhf("submit", "sent.yaml", "--address", cluster.url, folder=folder)
    assert missing.returncode == 2
    assert "no such file 'watcher.py'" in missing.stderr
    unknown = cluster.rlhf("submit", "sent.yaml", "optimiser.lr=1", "--address", cluster.url, folder=folder)
    assert unknown.returncode == 2
    assert "Did you mean 'optimizer'?" in unknown.stderr
    assert cluster.rlhf("jobs", "list", "--address", cluster.url, folder=folder).stdout == before
    name = cluster.rlhf("jobs", "logs", "no_such_job", "--address", cluster.url, folder=folder)
    assert name.returncode == 2
    assert "no job is called 'no_such_job'" in name.stderr


def test_wrong_token_is_refused(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    stranger = Cluster(cluster.url, cluster.environment | {"RAY_AUTH_TOKEN_PATH": str(token)}, cluster.home)
    done = stranger.rlhf("submit", "sent.yaml", "--address", cluster.url, folder=folder)
    assert done.returncode == 2
    assert "token" in done.stderr
    assert done.stderr.count("\n") == 1
