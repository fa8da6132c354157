"""What a run listens on: addresses of this machine alone, but for torch's rendezvous, which cannot be told to."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.tiny_runs import GRPO, SFT, Recipe, pipeline


def recipe(runtime: str) -> Recipe:
    """One step under Ray Train and one on actors; on the inline runtime the same."""
    whole = pipeline(runtime, defaults__held_out_rows=0)
    grpo = {**GRPO, "algorithm": {**GRPO["algorithm"], "steps": 1}, "reward": "pocket_gold"}
    del grpo["reward_model"]
    whole["stages"] = {"sft": {**SFT, "algorithm": {**SFT["algorithm"], "steps": 1}}, "grpo": grpo}
    return whole


def listening(run: subprocess.Popen[bytes]) -> set[tuple[str, str, int]]:
    """(command, address, port) of all that the processes of the run listen on while it lasts."""
    found = set()
    while run.poll() is None:
        try:
            processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for process in processes:
            try:
                sockets = [s for s in process.net_connections("inet") if s.status == psutil.CONN_LISTEN]
                words = " ".join(process.cmdline())
            except psutil.Error:  # it ended meanwhile
                continue
            found |= {(words, s.laddr.ip, s.laddr.port) for s in sockets}
        time.sleep(0.2)
    return found


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip.is_loopback or bool(getattr(ip, "ipv4_mapped", None) and ip.ipv4_mapped.is_loopback)


def watched(runtime: str, folder: Path) -> set[tuple[str, str, int]]:
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe(runtime), sort_keys=False))
    log = folder / "log.txt"
    with log.open("wb") as out:
        run = subprocess.Popen(
            [sys.executable, "-m", "rlhf", "train", "mine.yaml", "--out", "run"],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        found = listening(run)
    assert run.wait() == 0, log.read_text()[-2000:]
    return found


@pytest.mark.skipif(not os.environ.get("RLHF_TEST_EVERY_METHOD"), reason="minutes; with RLHF_TEST_EVERY_METHOD=1")
@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_ray_listens_on_loopback_alone(tmp_path: Path) -> None:
    found = watched("ray", tmp_path)
    assert any("gcs_server" in words for words, _, _ in found), "the cluster was seen"
    abroad = {(words[:80], address) for words, address, _ in found if not is_loopback(address)}
    # torch.distributed's TCPStore takes no address to bind to: one in a worker of Ray Train or of a role.
    assert {words for words, _ in abroad if not words.startswith("ray::")} == set()
    assert len(abroad) <= 2


def test_a_run_in_one_process_listens_on_nothing(tmp_path: Path) -> None:
    assert watched("inline", tmp_path) == set()
