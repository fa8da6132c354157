"""Secrets planted where they might leak, and looked for in everything a run prints and writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlhf.cli.exit_codes import run_command
from rlhf.config.secrets import masked, require_no_secrets
from rlhf.errors import ConfigError
from rlhf.recipe import load_recipe
from tests.tiny_runs import GRPO, MODEL, Recipe, changed, single

SECRETS = {
    "MY_API_KEY": "sk-live-0123456789",
    "HF_TOKEN": "hf_abcdefgh0123",
    "DB_PASSWORD": "p4ss/with+signs",
    "AWS_SECRET_ACCESS_KEY": "aws+9/8=7",
}
PLUGIN = '''
import os
import sys

from rlhf import hookimpl
from rlhf.types import Grade

KEY, TOKEN, WORD = os.environ["MY_API_KEY"], os.environ["HF_TOKEN"], os.environ["DB_PASSWORD"]


def leaks(completions):
    """Prints a secret on both streams, raises one for every second row."""
    print("calling with", KEY)
    print("calling with", TOKEN, file=sys.stderr)
    return [1.0 for _ in completions]


def raises(completion):
    if completion.count("e") % 2:
        raise ConnectionError(f"https://user:{WORD}@host/?key={KEY} refused {TOKEN}")
    return 1.0


class Leaky:
    """A grader that says a secret in its errors, in the run's own process."""

    axis = "helpful"

    def __init__(self, config, parts):
        pass

    def grade(self, rollouts):
        error = f"the judge refused key {KEY}"
        return [Grade(axis="helpful", score=None, error=error) if n % 2 else
                Grade(axis="helpful", score=0.5, rationale=f"asked with {TOKEN}") for n, _ in enumerate(rollouts)]


class Tracker:
    def __init__(self, config, folder):
        pass

    def log(self, step, metrics):
        raise OSError(f"cannot log in as {TOKEN}")

    def close(self):
        pass


@hookimpl
def register_rewards(register):
    register("leaks", leaks)
    register("raises", raises)


@hookimpl
def register_graders(register):
    register("leaky", Leaky)


@hookimpl
def register_trackers(register):
    register("leaky_tracker", Tracker)


@hookimpl
def should_stop(step, metrics):
    return f"{KEY} told me so" if step == 2 else None
'''


def recipe(folder: Path) -> Recipe:
    (folder / "leaky.py").write_text(PLUGIN)
    drop = {"on_error": "drop", "max_error_rate": 1.0}
    rewards = [
        {"type": "leaks"},
        {"type": "raises", **drop},
        {"type": "raises", "name": "inside", "processes": 0, **drop},
        {"type": "graded", "grader": "leaky", **drop},
        {"type": "num_tokens"},
    ]
    stage = {**changed(GRPO, {"algorithm.steps": 2}), "model": {"new": MODEL}, "reward": rewards}
    stage.pop("reward_model")
    return single(stage, held_out_rows=0, plugins={"paths": ["leaky.py"]}, trackers=["leaky_tracker"])


def texts_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_no_secret(texts: dict[str, bytes]) -> None:
    found = [(name, key) for name, text in texts.items() for key, secret in SECRETS.items() if secret.encode() in text]
    assert not found


def command(recipe: Recipe, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return subprocess.run(
        [sys.executable, "-m", "rlhf", "train", "mine.yaml", "--out", "run", *words],
        cwd=folder,
        env=os.environ | SECRETS,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_run_writes_and_prints_no_secret_of_its_environment(tmp_path: Path) -> None:
    result = command(recipe(tmp_path), tmp_path)
    assert result.returncode == 0, result.stderr
    texts = texts_of(tmp_path / "run")
    # They were met: each of the planted places speaks of the variable in the place of its value.
    for place in ("failed_rewards/raises.json", "failed_rewards/inside.json", "failed_rewards/graded.json"):
        assert b"<MY_API_KEY>" in texts[place], place
    assert any(b"calling with <MY_API_KEY>" in text for text in texts.values())
    assert "<HF_TOKEN>" in result.stderr, "of the tracker that failed"
    assert "<MY_API_KEY> told me so" in result.stderr
    assert {"recipe.yaml", "report.html", "samples.jsonl", "summary.json"} <= texts.keys()
    assert_no_secret(texts | {"stdout": result.stdout.encode(), "stderr": result.stderr.encode()})


def test_a_run_that_fails_says_no_secret(tmp_path: Path) -> None:
    failing = recipe(tmp_path)
    failing["reward"] = [{"type": "raises", "processes": 0}]
    result = command(failing, tmp_path, "--debug")
    assert result.returncode == 1
    assert "refused <HF_TOKEN>" in result.stderr.splitlines()[-1]
    assert "Traceback" in result.stderr
    assert_no_secret({"stdout": result.stdout.encode(), "stderr": result.stderr.encode()} | texts_of(tmp_path))


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sk-live-0123456789", "holds the value of the environment variable MY_API_KEY"),
        ("https://host/?a=sk-live-0123456789", "holds the value of the environment variable MY_API_KEY"),
        ("https://me:hunter22@host/rewards", "an address with a password"),
        ("https://host/rewards?version=1&api_key=0x99", "an address with a secret in its query (api_key)"),
        ("s3://host/data?X-Amz-Signature=0f0f", "an address with a secret in its query (X-Amz-Signature)"),
        ("${env:MY_API_KEY}", "recipes read no environment variables"),
        ("${oc.env:MY_API_KEY}", "recipes read no environment variables"),
    ],
)
def test_a_recipe_holds_no_secret(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRETS["MY_API_KEY"])
    stage = {"algorithm": "sft", "model": "new", "data": {"type": "files", "path": text}}
    for given in (stage, {"variables": {"x": text}, **stage, "data": {"type": "files", "path": "${x}"}}):
        with pytest.raises(ConfigError) as refusal:
            load_recipe(given)
        assert said in str(refusal.value)
        assert "data.path" in str(refusal.value)
        assert not any(secret in str(refusal.value) for secret in (*SECRETS.values(), "hunter22", "0x99", "0f0f"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"algorithm": "sft", "model": "new", "data": "pocket"}))
    assert run_command(["train", str(tmp_path / "mine.yaml"), f"name={SECRETS['MY_API_KEY']}", "--dry-run"]) == 2
    assert SECRETS["MY_API_KEY"] not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TOKENIZERS_PARALLELISM", "enabled1", "enabled1"),
        ("MAX_TOKENS", "1000000", "1000000"),
        ("RAY_AUTH_TOKEN_PATH", "/home/me/.ray/auth_token", "/home/me/.ray/auth_token"),
        ("DB_PASSWORD", "short", "short"),
    ],
)
def test_what_is_no_secret_is_left_alone(name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert masked(f"see {text}") == f"see {text}"
    require_no_secrets({"description": text})


def test_a_mere_word_is_masked_and_may_stand_in_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "postgres")
    assert masked("login postgres") == "login <DB_PASSWORD>"
    require_no_secrets({"description": "rows out of postgres"})


def test_addresses_without_secrets_may_stand_in_a_recipe() -> None:
    for text in ("https://host:8000/v1", "https://host/a?version=2&max_tokens=5", "http://127.0.0.1:8000", "a@b.org"):
        require_no_secrets({"url": text})
