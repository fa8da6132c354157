"""`rlhf serve`: a model behind an OpenAI-compatible endpoint, with rewards, graders and a page to compare."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from rlhf.cli.options import PluginOption

_Named = Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run's folder, a model's folder or a hub name.")]


def serve(
    model: _Named,
    beside: Annotated[
        str | None, typer.Option(metavar="RUN|MODEL", help="A second model, to be compared with on the page.")
    ] = None,
    reward: Annotated[
        list[str], typer.Option(metavar="NAME|MODEL", help="A reward by name or a reward model; repeatable.")
    ] = [],  # noqa: B006 - typer reads it and nobody changes it
    grader: Annotated[list[str], typer.Option(metavar="NAME", help="A grader by name; repeatable.")] = [],  # noqa: B006
    preferences: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Record choices made on the page, as data for training.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable that holds the key to ask for.")
    ] = None,
    engine: Annotated[str, typer.Option(metavar="NAME", help="What generates: auto, transformers, vllm.")] = "auto",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one answer, at most.")] = 1024,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests under way at a time; more are told 429.")] = 256,
    max_body: Annotated[int, typer.Option(min=1024, help="Bytes of a request, at most.")] = 2**20,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a request may take.")] = 300.0,
    plugin: PluginOption = None,
) -> None:
    """Serve a model: /v1/chat/completions, /v1/completions, /v1/rewards, /get_reward, and a page at /.

    The page shows two answers side by side, of MODEL and of --beside, or two of MODEL. Ctrl-C ends it.
    """
    from rlhf.errors import ConfigError

    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("starlette") is None:
        raise ConfigError("Ray Serve is not installed; pip install 'rlhf[serve]'")
    from rlhf.plugins import PluginSettings, load_plugins
    from rlhf.serving.chosen import api_key, named_judges, named_models
    from rlhf.serving.settings import Limits, ServingConfig, is_loopback

    key = api_key(api_key_env, is_private=is_loopback(host))
    plugins = load_plugins(PluginSettings(paths=tuple(plugin or ())))
    plugins.require_healthy()
    if engine != "auto":
        plugins.registry.get("rollout_engine", engine, "--engine")
    config = ServingConfig(
        models=named_models([model, *([beside] if beside is not None else [])]),
        engine={"type": engine},  # type: ignore[arg-type]  # pydantic makes a Part of it
        judges=named_judges(reward, grader, plugins),
        host=host,
        port=port,
        limits=Limits(max_body=max_body, max_tokens=max_tokens, timeout=timeout, max_requests=max_requests),
        plugins=plugins.settings,
        preferences=preferences,
    )
    from rlhf.serving.server import serve as serve_until_ended

    serve_until_ended(config, key, lambda line: typer.echo(line, err=True))
