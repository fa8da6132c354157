"""Ray Serve on this machine for as long as somebody serves: its replicas, and calls to them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import RunTarget
from ray.serve.config import ProxyLocation
from ray.serve.exceptions import RayServeException

from rlhf.errors import ConfigError
from rlhf.serving.judges import Judged, Judges, Row
from rlhf.serving.policy import Asked, Policy, Told
from rlhf.serving.settings import JudgeConfig, ServingConfig

_OF_NAMES = "judges"  # the application of rewards and graders that need no model


class Overloaded(Exception):
    """As many requests are under way as may be."""


class Unavailable(Exception):
    """The replica died over a request, or is not there; Serve starts another one."""


class Replicas:
    """Handles of the applications, and how many requests each has under way."""

    def __init__(self, config: ServingConfig) -> None:
        self._config = config
        self._handles: dict[str, Any] = {}
        self._under_way: dict[str, int] = {}
        self.is_loaded = False

    def deploy(self, say: Callable[[str], None]) -> None:
        """Start every replica and wait for it, in a thread that may wait. Raises `ConfigError` for what
        cannot be loaded.
        """
        started = time.monotonic()
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        logs = {"log_level": "WARNING", "enable_access_log": False}
        serve.start(proxy_location=ProxyLocation.Disabled, logging_config=logs)
        applications = self._applications()
        targets = [
            RunTarget(application, name=name.replace("/", "--"), route_prefix=None, logging_config=logs)
            for name, application in applications.items()
        ]
        self._handles = dict(zip(applications, serve.run_many(targets), strict=True))
        for handle in self._handles.values():
            told = handle.describe.remote().result(timeout_s=60)
            if told["fault"] is not None:
                raise ConfigError(told["fault"])
            if told.get("engine"):
                say(told["engine"])
        self.is_loaded = True
        say(f"ready after {time.monotonic() - started:.0f} s")

    def is_well(self) -> bool:
        """Whether all replicas are up, as Serve sees it; may wait for Serve's controller."""
        try:
            return all(app.status == "RUNNING" for app in serve.status().applications.values())
        except (RayError, RayServeException):
            return False

    async def being_written(self) -> dict[str, int]:
        """By model, how many answers its replica writes."""
        try:
            return {
                name: (await self._handles[name].describe.remote())["being_written"] for name in self._config.models
            }
        except (RayError, RayServeException):  # one died: whether it is back, Serve is asked
            return {}

    async def write(self, model: str, asked: Asked) -> AsyncIterator[Told]:
        """What `Policy.write` tells; where the caller stops, so does the replica."""
        self._enter(model)
        answer = self._handles[model].options(stream=True).write.remote(asked)
        try:
            async for told in answer:
                yield told
        except (RayError, RayServeException) as error:
            raise Unavailable(str(error).strip().splitlines()[-1]) from error
        finally:
            answer.cancel()
            self._under_way[model] -= 1

    async def judge(self, judge: JudgeConfig, rows: Sequence[Row]) -> list[Judged]:
        """What the judge says of each row, in order."""
        name = application_of(judge)
        self._enter(name)
        answer = self._handles[name].judge.remote((judge.name, list(rows)))
        try:
            judged: list[Judged] = await answer
            return judged
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except (RayError, RayServeException) as error:
            raise Unavailable(str(error).strip().splitlines()[-1]) from error
        finally:
            self._under_way[name] -= 1

    def _enter(self, name: str) -> None:
        if self._under_way.get(name, 0) >= self._config.limits.max_requests:
            raise Overloaded(f"{self._config.limits.max_requests} requests are under way; try again in a moment")
        self._under_way[name] = self._under_way.get(name, 0) + 1

    def _applications(self) -> dict[str, serve.Application]:
        """One for each model, so that one that dies takes no other with it."""
        config = self._config
        judging = [judge for judge in config.judges if judge.model is not None]
        of_names = [judge for judge in config.judges if judge.model is None]
        models = len(config.models) + len(judging)
        gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / models)
        threads = max(1, (os.cpu_count() or 1) // (models + bool(of_names)))
        options: dict[str, Any] = {
            "max_ongoing_requests": config.limits.max_requests,
            "graceful_shutdown_timeout_s": 1,
            "health_check_period_s": 5,
        }
        plugins = config.plugins.model_dump()

        def deployed(kind: type, num_gpus: float, *arguments: Any) -> serve.Application:
            environment = {"env_vars": {"OMP_NUM_THREADS": str(threads)}}
            if not num_gpus:
                environment["env_vars"]["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves those of others in sight
            # Replicas share the cores; a share of Ray's count would keep the third model from starting on two.
            actor = {"num_cpus": 0, "num_gpus": num_gpus, "runtime_env": environment}
            deployment: Any = serve.deployment(kind, ray_actor_options=actor, **options)
            application: serve.Application = deployment.bind(*arguments)
            return application

        applications = {
            name: deployed(Policy, gpus, path, config.engine.model_dump(), plugins, gpus)
            for name, path in config.models.items()
        }
        for judge in judging:
            applications[application_of(judge)] = deployed(Judges, gpus, judge.model, [judge.model_dump()], plugins)
        if of_names:
            told = [judge.model_dump() for judge in of_names]
            applications[_OF_NAMES] = deployed(Judges, 0, next(iter(config.models.values())), told, plugins)
        return applications


def application_of(judge: JudgeConfig) -> str:
    """The Serve application that holds the judge."""
    return _OF_NAMES if judge.model is None else f"judge {judge.name}"
