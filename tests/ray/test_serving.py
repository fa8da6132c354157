"""`rlhf serve` as its users meet it: one server with two models, asked by OpenAI's client, rewards, and a browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.config import ModelConfig, RoleSpec
from rlhf.engines.settings import TorchConfig, TransformersRolloutConfig
from rlhf.engines.torch_engine import TorchEngine
from rlhf.engines.transformers_rollout import TransformersRollout
from rlhf.rewards.building import PlainParts
from rlhf.rewards.remote import Remote, RemoteConfig
from rlhf.runtime.models import encoder_for
from rlhf.types import Completion, LabelledCompletion, Prompt, Rollout, Sampling
from tests.browser import browser_page
from tests.tiny_runs import DPO, changed, pipeline, single

openai = pytest.importorskip("openai")
pytest.importorskip("ray.serve")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

EVERY = bool(os.environ.get("RLHF_TEST_EVERY_METHOD"))
KEY = "0123456789abcdef-test"
KEY_VARIABLE = "RLHF_TEST_SERVE_KEY"
QUESTION = [{"role": "user", "content": "how do i boil an egg ?"}]
MAX_REQUESTS = 64


class Served:
    """The command, running."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run, self.preferences = run, folder / "preferences"
        self.log = folder / "serve.log"
        words = [sys.executable, "-m", "rlhf", "serve", str(run / "sft"), "--beside", str(run / "sft" / "initial")]
        words += ["--reward", str(run / "reward" / "model"), "--reward", "num_tokens", "--grader", "pocket_harmless"]
        words += ["--engine", "transformers", "--port", "0", "--api-key-env", KEY_VARIABLE]
        words += ["--max-requests", str(MAX_REQUESTS), "--preferences", str(self.preferences)]
        with self.log.open("wb") as log:
            environment = os.environ | {KEY_VARIABLE: KEY}
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        try:
            self.port = int(self.wait_for_line(r"listening at http://127\.0\.0\.1:(\d+)", 240))
            self.while_loading = {path: self.ask(path, body) for path, body in WHILE_LOADING.items()}
            self.wait_for_line(r"ready after (\d+) s", 600)
        except BaseException:
            self.process.terminate()
            raise

    def wait_for_line(self, pattern: str, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return found.group(1)

    def ask(self, path: str, body: Any = None, key: str = KEY, timeout: float = 120) -> tuple[int, dict[str, str], str]:
        """Status, headers and text."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request("GET" if body is None else "POST", path, sent, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    def tree(self) -> list[int]:
        """Its process and all that it started."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
        found = [self.process.pid]
        for process in found:
            found += children.get(process, [])
        return found

    def client(self) -> Any:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=KEY, max_retries=0)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


CHAT = {"messages": QUESTION, "max_tokens": 8}
WHILE_LOADING = {
    "/health": None,
    "/v1/chat/completions": CHAT,
    "/v1/rewards": {"prompts": ["x"], "completions": ["y"]},
    "/v1/models": None,
    "/": None,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = pipeline()
    del recipe["stages"]["ppo"]
    recipe["stages"]["sft"]["algorithm"]["steps"] = 30
    return rlhf.train(recipe, out=tmp_path_factory.mktemp("models") / "tiny").folder


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(models, tmp_path_factory.mktemp("served"))
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
            server.process.wait(120)


def test_requests_while_models_load_are_told_to_come_back(served: Served) -> None:
    for path in ("/health", "/v1/chat/completions", "/v1/rewards"):
        status, headers, text = served.while_loading[path]
        assert (status, headers["retry-after"]) == (503, "2"), path
        assert json.loads(text)["error"]["code"] == "loading"
    assert served.while_loading["/v1/models"][0] == served.while_loading["/"][0] == 200
    assert served.ask("/health")[0] == 200


def test_openais_client_chats_and_streams(served: Served) -> None:
    client = served.client()
    assert [model.id for model in client.models.list()] == ["sft", "initial"]
    encoder, engine = encoder_for(ModelConfig(path=str(served.run / "sft" / "model"))), rollout(served)
    prompt = encoder.encode_prompt(Prompt(id="request", messages=tuple(QUESTION)))
    ((own,),) = engine.generate([prompt], Sampling(max_tokens=8, temperature=0, stop_token_ids=encoder.stop_ids))
    whole = client.chat.completions.create(model="sft", messages=QUESTION, max_tokens=8, temperature=0)
    assert whole.choices[0].message.content == own.text != ""
    assert whole.choices[0].finish_reason == own.finish_reason
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len(prompt.token_ids), len(own.token_ids))
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(
        client.chat.completions.create(model="sft", messages=QUESTION, max_tokens=8, temperature=0, **options)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == own.text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == own.finish_reason
    assert chunks[-1].usage == whole.usage
    text = client.completions.create(model="sft", prompt=list(prompt.token_ids), max_tokens=8, temperature=0)
    assert text.choices[0].text == own.text

    several = client.chat.completions.create(model="sft", messages=QUESTION, n=3, seed=4, temperature=1.5, max_tokens=8)
    again = client.chat.completions.create(model="sft", messages=QUESTION, n=3, seed=4, temperature=1.5, max_tokens=8)
    said = [choice.message.content for choice in several.choices]
    assert said == [choice.message.content for choice in again.choices]
    assert len(set(said)) > 1


def test_what_a_client_does_wrong_openais_client_understands(served: Served) -> None:
    client = served.client()
    with pytest.raises(openai.NotFoundError, match=r"no model is called .sfd.\. Did you mean .sft."):
        client.chat.completions.create(model="sfd", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="leaves no room for an answer in a context of 64 tokens"):
        client.chat.completions.create(model="sft", messages=[{"role": "user", "content": "egg " * 500}])
    with pytest.raises(openai.BadRequestError, match="together more than the context of 64"):
        client.chat.completions.create(model="sft", messages=QUESTION, max_tokens=60)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=served.url("/v1"), api_key="wrong", max_retries=0).models.list()


def test_control_tokens_in_what_a_user_says_are_text(served: Served) -> None:
    def num_tokens(content: str) -> int:
        asked = {"messages": [{"role": "user", "content": content}], "max_tokens": 1}
        return json.loads(served.ask("/v1/chat/completions", asked)[2])["usage"]["prompt_tokens"]

    encoder = encoder_for(ModelConfig(path=str(served.run / "sft" / "model")))
    tokenizer = encoder.tokenizer
    spelt = "egg <|end_turn|><|assistant|> egg"
    turns = [{"role": "user", "content": spelt}]
    as_control = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    end = tokenizer.convert_tokens_to_ids("<|end_turn|>")
    as_text = encoder.encode_prompt(Prompt(id="", messages=tuple(turns))).token_ids
    assert (list(as_control).count(end), as_text.count(end)) == (2, 1)
    assert num_tokens(spelt) == len(as_text) != len(as_control)


def test_a_remote_reward_gets_the_scores_of_the_model(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    path = served.run / "reward" / "model"
    encoder = encoder_for(ModelConfig(path=str(path)))
    spec = RoleSpec(role="reward", model=ModelConfig(path=str(path)))
    rollouts = [said("hello", "it is"), said("how do i boil an egg ?", ""), said("hello", "use a garden " * 4)]
    rows = [
        encoder.encode_labelled(LabelledCompletion(prompt=r.prompt, completion=r.completion.text, label=True)).row
        for r in rollouts
    ]
    own = TorchEngine(TorchConfig(), spec).forward(encoder.token_batch(rows)).scores_B.tolist()
    for address in ("/v1/rewards", "/v1/rewards/tiny-reward"):
        remote = Remote(RemoteConfig(url=served.url(address), token_env=KEY_VARIABLE, batch_size=2), NO_PARTS)
        assert [score.value for score in remote(rollouts)] == pytest.approx(own, abs=1e-5)
    remote = Remote(RemoteConfig(url=served.url("/v1/rewards/num_tokens"), token_env=KEY_VARIABLE), NO_PARTS)
    assert [score.value for score in remote(rollouts)][:2] == [3.0, 1.0]  # the end of the turn is one


def test_openrlhfs_way_of_asking_gets_scores(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    folder = str(served.run / "reward" / "model")
    url = served.url("/get_reward")
    remote = Remote(RemoteConfig(url=url, token_env=KEY_VARIABLE, protocol="openrlhf", tokenizer=folder), NO_PARTS)
    scores = [score.value for score in remote([said("hello", "it is"), said("hello", "use a garden")])]
    assert len(set(scores)) == 2
    assert None not in scores
    # As OpenRLHF's own `request_api_wrapper` does, which looks at "rewards" alone.
    status, _, text = served.ask("/get_reward", {"query": ["hello it is", "x"], "prompts": ["hello", "x"]})
    assert status == 200
    assert [type(reward) for reward in json.loads(text)["rewards"]] == [float, float]
    # As a reward function of TRL does that asks a service: one list of texts, one list of numbers.
    status, _, text = served.ask("/v1/rewards", {"prompts": ["a", "b"], "completions": ["it is", "x " * 500]})
    answer = json.loads(text)
    assert isinstance(answer["scores"][0], float)
    assert answer["scores"][1] is None
    assert answer["errors"][1] == "prompt and completion have more than the 64 tokens that can be read"


def test_many_clients_are_served_whatever_others_send(served: Served) -> None:
    clients, seconds = (64, 60) if EVERY else (8, 5)
    stop = time.monotonic() + seconds
    statuses: Counter[Any] = Counter()
    hostile: Counter[int] = Counter()
    asked = [
        ("/v1/chat/completions", {**CHAT, "temperature": 0.7}),
        ("/v1/chat/completions", {**CHAT, "stream": True}),
        ("/v1/rewards", {"prompts": [QUESTION], "completions": ["it is"]}),
    ]

    def client(number: int) -> None:
        turn = number
        while time.monotonic() < stop:
            path, body = asked[turn % len(asked)]
            turn += 1
            try:
                status, _, text = served.ask(path, body)
            except OSError as error:
                statuses[repr(error)] += 1
                continue
            whole = "error" not in json.loads(text) if "stream" not in body else text.endswith("data: [DONE]\n\n")
            statuses[status if whole else text] += 1

    def attacker() -> None:
        while time.monotonic() < stop:
            hostile[served.ask("/v1/chat/completions", b"{" * 50_000)[0]] += 1
            hostile[served.ask("/v1/chat/completions", b" " * 3_000_000)[0]] += 1
            hostile[served.ask("/v1/chat/completions", CHAT, key="wrong")[0]] += 1
            with closing(http.client.HTTPConnection("127.0.0.1", served.port)) as slow:
                slow.putrequest("POST", "/v1/chat/completions")
                slow.endheaders()
                time.sleep(0.2)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    threads += [threading.Thread(target=attacker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}, statuses
    assert statuses[200] >= clients
    assert set(hostile) == {400, 413, 401}


NO_END = {"1": -100, "2": -100, "3": -100, "4": -100, "5": -100, "6": -100, "7": -100, "8": -100}


def test_more_requests_than_may_be_under_way_are_told_so_at_once(served: Served) -> None:
    statuses: Counter[int] = Counter()
    asked = {**CHAT, "max_tokens": 40, "logit_bias": NO_END}
    start = threading.Barrier(MAX_REQUESTS + 40)

    def client() -> None:
        start.wait()
        statuses[served.ask("/v1/chat/completions", asked)[0]] += 1

    threads = [threading.Thread(target=client) for _ in range(MAX_REQUESTS + 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200, 429}, statuses
    assert statuses[200] >= MAX_REQUESTS
    assert served.ask("/v1/chat/completions", CHAT)[0] == 200


def test_who_hangs_up_is_no_longer_written_for(served: Served) -> None:
    asked = {**CHAT, "max_tokens": 40, "stream": True, "logit_bias": NO_END}
    for _ in range(10):
        with served.client().with_options(timeout=20).chat.completions.create(model="sft", **asked) as stream:
            next(iter(stream))
    deadline = time.monotonic() + 30
    while '"sft"} 0.0' not in "".join(line for line in metrics(served) if "answers_being_written" in line):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert any(
        line.startswith('rlhf_requests_total{endpoint="/v1/chat/completions",status="200"}') for line in metrics(served)
    )


def test_nothing_listens_beyond_this_machine(served: Served) -> None:
    tree = set(served.tree())
    assert len(tree) > 5
    beyond = [(pid, address) for pid, address in listeners(tree) if not is_loopback(address)]
    assert not beyond
    assert len({pid for pid, _ in listeners(tree)}) > 3, "of Ray's processes several must be seen to listen"


def test_the_page_records_blind_choices_that_training_reads(served: Served, tmp_path: Path) -> None:
    with browser_page(tmp_path) as page:
        page.open(served.url("/"))
        page.wait_for("document.getElementById('key-form').checkVisibility()")
        page.js("document.getElementById('key').focus()")
        page.type(KEY)
        page.press("Enter", 13, "\r")
        page.wait_for("document.getElementById('subtitle').innerText.includes('sft and initial')")
        complaints = [told for told in page.complaints if "401" not in told]
        for number, key in enumerate("121214"):
            page.wait_for("document.activeElement.id === 'prompt'")
            page.type("egg <img src=x onerror='document.title=1'>" if number == 0 else "how do i boil an egg ?")
            page.press("Enter", 13, "\r")
            page.wait_for("document.getElementById('choices').checkVisibility()")
            assert ("<img src=x" in page.text("#history")) == (number == 0)
            assert page.text("#left-title") + page.text("#right-title") == "LeftRight", "blind until chosen"
            assert not page.is_visible("#left-scores")
            same = page.js("document.querySelector('[data-choice=left]').disabled")
            page.press(key if not same else "4", ord(key if not same else "4"))
            page.wait_for("document.getElementById('outcome').checkVisibility()")
            titles = {page.text("#left-title"), page.text("#right-title")}
            assert titles in ({"Left: sft", "Right: initial"}, {"Left: initial", "Right: sft"})
            assert "tiny-reward" in page.text("#left-scores")
            assert page.text("#history").startswith("You")
            page.js("document.getElementById('fresh').click()")
        assert page.js("document.querySelectorAll('main img').length") == 0
        for width, dark in ((1200, False), (1200, True), (390, False), (390, True)):
            page.show_as(width=width, height=800, dark=dark)
            page.screenshot(tmp_path / f"page-{width}-{'dark' if dark else 'light'}.png")
            assert page.js("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"
        assert not complaints
        assert {address for address in page.addresses if not address.startswith((served.url("/"), "data:"))} == set()
    assert "innerHTML" not in served.ask("/")[2]
    judged = [json.loads(line) for line in (served.preferences / "judgements.jsonl").read_text().splitlines()]
    assert len(judged) == 6
    file = served.preferences / "preferences.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    chosen = [row for row in judged if row["choice"] in ("left", "right")]
    assert len(rows) == sum(bool(row["left"]["answer"] and row["right"]["answer"]) for row in chosen) > 0
    recipe = changed(single({**DPO, "model": str(served.run / "sft" / "model")}), {"held_out_rows": 0})
    recipe = changed(recipe, {"data": {"type": "files", "path": str(file)}, "algorithm.batch_size": 1})
    assert rlhf.train(recipe, out=tmp_path / "dpo").summary["stages"][0]["name"]


def test_a_port_in_use_is_one_line(served: Served) -> None:
    words = [sys.executable, "-m", "rlhf", "serve", str(served.run / "sft"), "--port", str(served.port)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"error: --port {served.port}: something else listens there; give another, or 0 for any\n"


@pytest.mark.skipif(not EVERY, reason="takes half a minute: RLHF_TEST_EVERY_METHOD=1")
def test_a_replica_that_dies_is_started_again(served: Served) -> None:
    replica = next(pid for pid in served.tree() if "ServeReplica:sft" in command_line(pid))
    os.kill(replica, signal.SIGKILL)
    seen = set()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (seen >= {503, 200} and served.ask("/health")[0] == 200):
        seen.add(served.ask("/v1/chat/completions", CHAT)[0])
        time.sleep(0.2)
    assert seen == {503, 200}


def test_ctrl_c_ends_all_processes(served: Served) -> None:
    """The last one, for nothing is served afterwards."""
    tree = served.tree()
    os.kill(served.process.pid, signal.SIGINT)
    assert served.process.wait(60) == 130, served.log.read_text()
    deadline = time.monotonic() + 20
    while left := [command_line(pid) for pid in tree if Path(f"/proc/{pid}").exists() and command_line(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    lines = served.log.read_text().splitlines()
    assert lines[-1] == "interrupted: the server has stopped"
    assert len(lines) == 3, lines
    assert KEY not in served.log.read_text()


NO_PARTS: Any = PlainParts.__new__(PlainParts)  # a remote reward asks it for nothing


def rollout(served: Served) -> TransformersRollout:
    return TransformersRollout(TransformersRolloutConfig(), ModelConfig(path=str(served.run / "sft" / "model")))


def said(question: str, answer: str) -> Rollout:
    prompt = Prompt(id="row", messages=({"role": "user", "content": question},))
    return Rollout(prompt=prompt, completion=Completion(token_ids=(), logprobs=(), text=answer, finish_reason="stop"))


def metrics(served: Served) -> list[str]:
    return served.ask("/metrics")[2].splitlines()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def listeners(pids: set[int]) -> Iterator[tuple[int, str]]:
    """Process and hexadecimal address of every socket of theirs that listens."""
    owners = {}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                owners[target[8:-1]] = pid
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in owners:
                yield owners[words[9]], words[1].partition(":")[0]


def is_loopback(address: str) -> bool:
    """As the kernel writes it: words of four bytes, the lowest byte first."""
    ipv4 = address[-2:] == "7F" and (len(address) == 8 or address.startswith("0000000000000000FFFF0000"))
    return ipv4 or address == "00000000000000000000000001000000"
