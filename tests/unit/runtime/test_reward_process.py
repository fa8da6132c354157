"""Rewards in processes of their own: whatever one does, its rows are answered for and the others are judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf.config import RewardPart
from rlhf.errors import ConfigError, PluginError, RunError
from rlhf.plugins import PluginSettings, load_plugins
from rlhf.rewards.failures import NOT_ASKED
from rlhf.runtime.reward_pool import RewardPool
from rlhf.runtime.reward_process import HostSetup, RewardProcess
from rlhf.types import Completion, Message, Prompt, Rollout
from tests.processes import command_lines

REWARDS = """
import os, sys, time, subprocess

def of_batch(completions, **columns):
    return {"reward": [len(c) for c in completions], "columns": [len(columns)] * len(completions)}

def of_row(prompt, completion):
    if completion == "hang":
        while True:
            try:
                time.sleep(100)
            except BaseException:
                pass
    if completion == "exit":
        os._exit(3)
    if completion == "abort":
        os.abort()
    if completion == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(10**8))
    if completion == "fork":
        if os.fork() == 0:
            time.sleep(100)
    if completion == "children":
        subprocess.Popen(["sleep", "321.25"])
    if completion == "print":
        print("my key is", os.environ["SOME_API_KEY"])
        os.write(1, b"x" * 1_000_000)
        raise RuntimeError("denied: " + os.environ["SOME_API_KEY"])
    if completion == "pid":
        return os.getpid()
    return 1.0

def exits_for_all(completions):
    os._exit(4)

def wants(completion, somewhere_else):
    return 1.0

def pid(completion):
    time.sleep(0.2)
    return os.getpid()
"""


def rollout(text: str, number: int = 0) -> Rollout:
    said = Completion(token_ids=(1, 2), logprobs=(-1.0, -2.0), text=text, finish_reason="length")
    prompt = Prompt(
        id=str(number),
        messages=(Message(role="user", content="hé?"),),
        reference="r",
        metadata={"level": 3, "tags": ["a"], "none": None},
    )
    return Rollout(prompt=prompt, completion=said)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(REWARDS)
    return path


def setup_of(file: Path, name: str, **settings: object) -> HostSetup:
    plugins = PluginSettings(paths=(f"{file}:{name}",))
    part = RewardPart.model_validate({"type": name, "timeout": 1.0, "memory": 1.0, "on_error": "drop", **settings})
    known = load_plugins(plugins).fingerprints(guests_only=True)
    return HostSetup(part=part, where="reward", plugins=plugins, fingerprints=known)


@pytest.fixture
def started(file: Path) -> Iterator[Callable[..., RewardProcess]]:
    processes = []

    def start(name: str, **settings: object) -> RewardProcess:
        processes.append(RewardProcess(setup_of(file, name, **settings)))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


def test_it_is_told_all_there_is_and_answers_as_in_this_process(started: Callable[..., RewardProcess]) -> None:
    scores = started("of_batch")([rollout("four"), rollout("")])
    assert [score.value for score in scores] == [4, 0]
    assert scores[0].parts == {"columns": 11.0}  # level, tags, none, and what every function is offered


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("hang", "took longer than 1 s"),
        ("exit", "its process ended with exit code 3"),
        ("abort", "its process was ended by SIGABRT"),
        ("memory", "raised MemoryError"),
    ],
)
def test_a_row_that_takes_its_process_along_is_one_row(
    started: Callable[..., RewardProcess], text: str, error: str
) -> None:
    # A busy machine may take more than a second to fill half a gigabyte.
    process = started("of_row", memory=0.5, timeout=30.0 if text == "memory" else 1.0)
    scores = process([rollout(t, n) for n, t in enumerate(("a", text, "b", "c"))])
    assert [score.value for score in scores] == [1.0, None, 1.0, 1.0]
    assert scores[1].error == error
    assert [score.value for score in process([rollout("later")])] == [1.0]


@pytest.mark.parametrize(("text", "error"), [("hang", "took longer than 1 s"), ("exit", "its process ended with exit")])
def test_where_a_failure_ends_the_run_the_rest_is_not_waited_for(
    started: Callable[..., RewardProcess], text: str, error: str
) -> None:
    process = started("of_row", on_error="raise")
    process([rollout("a")])  # it is there
    began = time.monotonic()
    scores = process([rollout(t, n) for n, t in enumerate(("a", *[text] * 100))])
    assert time.monotonic() - began < 20
    assert scores[0].value == 1.0
    assert str(scores[1].error).startswith(error)
    assert {score.error for score in scores[2:]} == {NOT_ASKED}


def test_a_batch_that_takes_its_process_along_is_all_its_rows(started: Callable[..., RewardProcess]) -> None:
    scores = started("exits_for_all")([rollout("a"), rollout("b")])
    assert {score.error for score in scores} == {"its process ended with exit code 4"}


@pytest.mark.timeout(60)
def test_rows_that_fail_before_they_are_begun_are_not_waited_for(started: Callable[..., RewardProcess]) -> None:
    scores = started("wants")([rollout("a"), rollout("b")])
    assert all(str(score.error).startswith("has a parameter 'somewhere_else', which is no column") for score in scores)


def test_one_that_was_closed_is_not_started_again(started: Callable[..., RewardProcess]) -> None:
    process = started("of_row")
    process.close()
    with pytest.raises(RunError, match="reward 'of_row': its process was closed"):
        process([rollout("a")])


def test_rows_judged_at_the_same_time_are_not_blamed_for_one_that_hangs(started: Callable[..., RewardProcess]) -> None:
    scores = started("of_row", concurrency=4)([rollout(t, n) for n, t in enumerate(["a", "hang", *"bcdefg"])])
    assert [score.error for score in scores] == [None, "took longer than 1 s", *[None] * 6]


def test_of_a_reward_that_forks_one_speaks_and_none_is_left(started: Callable[..., RewardProcess]) -> None:
    process = started("of_row")
    scores = process([rollout(t, n) for n, t in enumerate(("a", "fork", "children", "b"))])
    assert [score.value for score in scores] == [1.0] * 4
    assert "sleep 321.25" in command_lines()
    process.close()
    time.sleep(0.2)
    assert "sleep 321.25" not in command_lines()


def test_what_it_prints_is_kept_in_part_without_secrets(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    pool = RewardPool(setup_of(file, "of_row"), 1, log=tmp_path / "out" / "of_row.log")
    try:
        (score,) = pool([rollout("print")])
        time.sleep(0.3)
        pool([rollout("a")])
    finally:
        pool.close()
    assert score.error == "raised RuntimeError: denied: <SOME_API_KEY>"
    assert "sk-very-secret" not in score.details
    log = (tmp_path / "out" / "of_row.log").read_text()
    assert "x" * 1000 in log
    assert len(log) <= 2 * 65_536  # at most 64 KiB between two questions
    assert "sk-very-secret" not in log


def test_several_processes_share_the_rows_in_order(file: Path) -> None:
    pool = RewardPool(setup_of(file, "pid"), 2)
    try:
        pool.start()
        scores = [score.value for score in pool([rollout("a", n) for n in range(5)])]
    finally:
        pool.close()
    assert len(set(scores)) == 2
    assert scores[0] == scores[2] == scores[4]
    assert scores[1] == scores[3]


def test_it_ends_with_whoever_started_it(started: Callable[..., RewardProcess]) -> None:
    process = started("of_row")
    (score,) = process([rollout("pid")])
    assert score.value is not None
    pid = int(score.value)
    asked = threading.Thread(target=process, args=([rollout("hang")],), daemon=True)
    asked.start()
    time.sleep(0.3)
    assert process._pipe is not None
    process._pipe.close()  # as the end of this process would
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_a_file_that_was_edited_meanwhile_is_refused(file: Path) -> None:
    setup = setup_of(file, "of_row")
    file.write_text(REWARDS + "\n# edited\n")
    process = RewardProcess(setup)
    with pytest.raises(PluginError, match="plugin 'mine' differs on the reward's process"):
        process.start()
    process.close()


def test_a_column_that_cannot_be_sent_is_named_by_its_type(started: Callable[..., RewardProcess]) -> None:
    bad = Rollout(prompt=Prompt(id="0", text="?", metadata={"when": object()}), completion=rollout("a").completion)
    with pytest.raises(ConfigError, match="a column of the data holds a object, which cannot be sent"):
        started("of_row")([bad])
