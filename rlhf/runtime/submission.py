"""A recipe as a job of a running Ray cluster.

What is sent is a folder holding the resolved recipe and its one-file plugins: no data, no environment variables, no
secrets, nothing of the folder the command was given in. Other paths in the recipe are paths on the cluster.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhf.config.secrets import secrets_of_environment
from rlhf.errors import ConfigError, Interrupted, PluginError, ResourceError, RunError
from rlhf.recipe import Recipe, load_recipe

_RECIPE_FILE = "recipe.yaml"
_STOP_WAIT_S = "120"
"""How long Ray lets a stopped job save its checkpoint before it kills it; 3 s if not told otherwise."""
_START_WAIT_S = 60
_MOST_SENT = 2**20
"""Bytes of one plugin file."""
_CAUSES = ("error: ", "failed: ", "interrupted: ")
"""How the command line of the job begins the line that says why it ended."""


@dataclass(frozen=True)
class SubmittedJob:
    """A job just sent: its name, the run's folder on the cluster, and the same as a line for Ray's own command."""

    id: str
    out: str
    command: str


@dataclass(frozen=True)
class JobRow:
    """A job of the cluster."""

    id: str
    status: str
    started: str
    entrypoint: str


def submit_recipe(
    source: str | Path,
    overrides: Mapping[str, Any],
    address: str,
    *,
    out: str | None = None,
    resume: bool = False,
    sent: Path = Path("runs/submitted"),
) -> SubmittedJob:
    """Check the recipe, pack it with its plugin files into `sent/JOB`, and send it to the cluster at `address`.

    The run's folder there is `out`, absolute or `~/...`, and else `~/runs/JOB`, which no other job has. Raises
    `ConfigError`, `PluginError`, or `ResourceError` where no cluster answers.
    """
    if out is not None and not (out.startswith(("/", "~/")) and out.isprintable()):
        raise ConfigError(
            f"--out {out!r}: give an absolute path, which is one on the cluster, or one that starts with ~/"
        )
    if resume and out is None:
        raise ConfigError("--resume: give the folder of the run to continue with --out DIR")
    _check_address(address)
    recipe = load_recipe(source, overrides)
    job_id = f"{recipe.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    run_folder = out or f"~/runs/{job_id}"
    with _client(address) as client:
        folder = sent / job_id
        _pack(recipe, folder)
        entrypoint = f"python -m rlhf train {_RECIPE_FILE} --address auto --out {_quoted(run_folder)}"
        entrypoint += " --resume" if resume else ""
        environment = {"working_dir": str(folder), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": _STOP_WAIT_S}}
        _submit(client, entrypoint=entrypoint, submission_id=job_id, runtime_env=environment)
    ray = ["ray", "job", "submit", "--address", address, "--runtime-env-json", json.dumps(environment), "--"]
    return SubmittedJob(job_id, run_folder, shlex.join([*ray, *entrypoint.split()]))


def follow_job(job_id: str, address: str, write: Callable[[str], None]) -> None:
    """Hand the job's log to `write` until it ends; `RunError` with the root cause where it did not succeed.

    Ctrl-C ends the following, not the job.
    """
    with _client(address) as client:
        _require_job(client, job_id)
        try:
            asyncio.run(_tail(client, job_id, write))
        except KeyboardInterrupt:
            raise Interrupted(
                f"the job goes on: rlhf jobs logs {job_id} --follow --address {address}, or rlhf jobs stop"
            ) from None
        info = client.get_job_info(job_id)
        if info.status.value == "SUCCEEDED":
            return
        cause = _root_cause(client.get_job_logs(job_id)) or " ".join((info.message or "").split())
        raise RunError(f"{cause} (job {job_id} {info.status.value.lower()})")


def submitted_jobs(address: str) -> list[JobRow]:
    """The cluster's submitted jobs, newest first."""
    with _client(address) as client:
        jobs = [job for job in client.list_jobs() if job.submission_id]
    jobs.sort(key=lambda job: job.start_time or 0, reverse=True)
    return [JobRow(job.submission_id, job.status.value, _when(job.start_time), job.entrypoint) for job in jobs]


def job_log(job_id: str, address: str) -> str:
    """All the job has printed so far."""
    with _client(address) as client:
        _require_job(client, job_id)
        log: str = client.get_job_logs(job_id)
    return log


def stop_job(job_id: str, address: str) -> str:
    """Ask the job to stop; says what became of that."""
    with _client(address) as client:
        _require_job(client, job_id)
        return "stopping" if client.stop_job(job_id) else f"was over ({client.get_job_status(job_id).value.lower()})"


# --- what is sent ----------------------------------------------------------------------------------------------------


def _pack(recipe: Recipe, folder: Path) -> None:
    """The resolved recipe and its plugin files, side by side."""
    files = {spec: _plugin_file(spec) for spec in recipe.plugins.paths}
    folder.mkdir(parents=True)
    for file in files.values():
        if (folder / file.name).exists():
            raise PluginError(f"plugins.paths: two files are called {file.name!r}; rename one")
        shutil.copyfile(file, folder / file.name)
    paths = tuple(_beside_recipe(spec, file) for spec, file in files.items())
    plugins = recipe.plugins.model_copy(update={"paths": paths})
    (folder / _RECIPE_FILE).write_text(recipe.model_copy(update={"plugins": plugins}).as_yaml(), encoding="utf-8")


def _plugin_file(spec: str) -> Path:
    file, separator, _ = spec.partition(".py:")
    path = Path(file + ".py" if separator else file)
    if not path.is_file():
        raise PluginError(f"plugins.paths: no such file {str(path)!r}, and it would have to be sent to the cluster")
    if path.resolve().suffix != ".py":  # a recipe of somebody else could name, or a link lead to, any file of yours
        raise PluginError(f"plugins.paths: {str(path)!r} is not a Python file, and nothing else is sent to a cluster")
    if path.stat().st_size > _MOST_SENT:
        raise PluginError(f"plugins.paths: {str(path)!r} is larger than {_MOST_SENT // 2**20} MiB; install it there")
    text = path.read_text(encoding="utf-8", errors="replace")
    for value, name in secrets_of_environment().items():
        if value in text and not value.isalpha():
            raise PluginError(
                f"plugins.paths: {str(path)!r} holds the value of the environment variable {name}, and would be "
                "sent to the cluster; read the variable where it is needed"
            )
    return path


def _beside_recipe(spec: str, file: Path) -> str:
    _, separator, function = spec.partition(".py:")
    return f"{file.name}:{function}" if separator else file.name


def _quoted(folder: str) -> str:
    """For the shell on the cluster, which puts its own home in the place of `~`."""
    return "~/" + shlex.quote(folder[2:]) if folder.startswith("~/") else shlex.quote(folder)


# --- Ray's job server ------------------------------------------------------------------------------------------------


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A connection to the job server; what goes wrong with it in the user's words."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    _check_address(address)
    try:
        yield JobSubmissionClient(address)
    except AuthenticationError as error:
        first = " ".join(str(error).split())
        raise ResourceError(
            f"{address} refuses this machine ({first}): copy the cluster's token to ~/.ray/auth_token, mode 600"
        ) from None
    except RuntimeError as error:  # what the job server answers with anything but success
        raise RunError(f"the cluster at {address} refused: {' '.join(str(error).split())}") from error
    except ConnectionError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or give its URL"
        ) from None


def _submit(client: Any, **job: Any) -> None:
    """A cluster that has just been started answers before it can take jobs."""
    deadline = time.monotonic() + _START_WAIT_S
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(1)


def _check_address(address: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"--address {address}: give the URL of the cluster's dashboard, as in http://127.0.0.1:8265")


def _require_job(client: Any, job_id: str) -> None:
    known = [job.submission_id for job in client.list_jobs() if job.submission_id]
    if job_id not in known:
        from rlhf.errors import nearest

        raise ConfigError(f"no job is called {job_id!r}.{nearest(job_id, known)} `rlhf jobs list` shows them")


async def _tail(client: Any, job_id: str, write: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(job_id):
        write(text)


def _root_cause(log: str) -> str:
    """The line with which the job's own command line said why it ended, or else the last line of its log."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(_CAUSES)]
    if named:
        return named[-1].partition(": ")[2]
    return lines[-1] if lines else ""


def _when(milliseconds: int | None) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}Z" if milliseconds else "not yet"
