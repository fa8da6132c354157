"""Serve until somebody ends it: the port answers at once, the models load beside it, and all ends together."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ray

from rlhf.errors import Interrupted, RunError, UserError
from rlhf.runtime.environment import prepare_environment
from rlhf.runtime.private_cluster import start_private_cluster
from rlhf.serving.app import app
from rlhf.serving.cluster import Replicas
from rlhf.serving.figures import Figures
from rlhf.serving.front import Front
from rlhf.serving.http_server import Ended, Signals, listen, run_until_signal, server_of
from rlhf.serving.preferences import PreferenceFiles
from rlhf.serving.settings import ServingConfig

Say = Callable[[str], None]
_RAY_STARTS_WITHIN_S = 60  # Ray itself gives up after 30


def serve(config: ServingConfig, key: str | None, say: Say) -> None:
    """Serve until Ctrl-C or SIGTERM, which are `Interrupted`. What is wrong is raised before anything is loaded, or
    as soon as loading shows it. `say` is told what happens, a line at a time, from several threads.
    """
    files = None if config.preferences is None else PreferenceFiles(Path(config.preferences).expanduser())
    listener = listen(config.host, config.port)
    say(f"listening at {_address(listener)}; loading {', '.join(config.models.values())}")
    prepare_environment()
    ray_is_up = threading.Event()
    try:
        asyncio.run(_serve(config, key, files, listener, say, ray_is_up))
    except Ended as ended:
        raise Interrupted("the server has stopped", exit_code=128 + ended.number) from None
    finally:
        listener.close()
        ray_is_up.wait(_RAY_STARTS_WITHIN_S)  # half started, it could not be ended
        ray.shutdown()


async def _serve(
    config: ServingConfig,
    key: str | None,
    files: PreferenceFiles | None,
    listener: socket.socket,
    say: Say,
    ray_is_up: threading.Event,
) -> None:
    signals = Signals()
    signals.catch()
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    replicas, figures = Replicas(config), Figures()
    front = Front(config, replicas, figures)
    _load_beside(replicas, say, failed, signals, ray_is_up)
    watching = asyncio.create_task(front.watch())
    try:
        await run_until_signal(server_of(app(front, files, key)), listener, signals, failed)
    finally:
        watching.cancel()


def _load_beside(
    replicas: Replicas, say: Say, failed: asyncio.Future[BaseException], signals: Signals, ray_is_up: threading.Event
) -> None:
    """Start Ray and every replica in a thread, which nobody waits for when it all ends sooner.

    The thread stays: on Linux, Ray has its processes killed when the thread that started them is gone.
    """
    events = asyncio.get_running_loop()

    def load() -> None:
        try:
            try:
                start_private_cluster()
            finally:
                ray_is_up.set()
            events.call_soon_threadsafe(signals.catch)  # Ray's own library has set a handler for SIGTERM
            replicas.deploy(say)
        except Exception as error:  # noqa: BLE001 - raised where somebody waits for it
            told = error if isinstance(error, UserError | RunError) else _in_short(error)
            with suppress(RuntimeError):  # the loop is closed: it all ended meanwhile
                events.call_soon_threadsafe(failed.set_result, told)
        threading.Event().wait()

    threading.Thread(target=load, name="loading", daemon=True).start()


def _in_short(error: Exception) -> RunError:
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    short = RunError(f"the models could not be started: {lines[-1].strip()}")
    short.__cause__ = error
    return short


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
