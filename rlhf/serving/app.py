"""All endpoints, behind the guard."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rlhf.serving.compare_routes import CompareRoutes
from rlhf.serving.front import Front
from rlhf.serving.guard import App, Guard, Receive, Scope, Send
from rlhf.serving.openai_routes import OpenAIRoutes
from rlhf.serving.page import page
from rlhf.serving.preferences import PreferenceFiles
from rlhf.serving.refusals import Refusal
from rlhf.serving.reward_routes import RewardRoutes

_log = logging.getLogger(__name__)
_Endpoint = Callable[[Request], Awaitable[Response]]


def app(front: Front, files: PreferenceFiles | None, key: str | None) -> App:
    """What the HTTP server runs."""
    openai, rewards, compare = OpenAIRoutes(front), RewardRoutes(front), CompareRoutes(front, files)
    whole_page = page()

    async def home(_request: Request) -> Response:
        return whole_page

    async def health(_request: Request) -> Response:
        front.require_ready()
        return Response("ready\n", media_type="text/plain")

    async def metrics(_request: Request) -> Response:
        return Response(front.figures.text(), media_type="text/plain; version=0.0.4")

    gets: dict[str, _Endpoint] = {
        "/": home,
        "/health": health,
        "/metrics": metrics,
        "/v1/models": openai.models,
        "/v1/comparisons": compare.describe,
    }
    posts: dict[str, _Endpoint] = {
        "/v1/chat/completions": openai.chat,
        "/v1/completions": openai.completions,
        "/v1/rewards": rewards.rewards,
        "/v1/rewards/{name}": rewards.rewards,
        "/get_reward": rewards.get_reward,
        "/get_reward/{name}": rewards.get_reward,
        "/v1/comparisons": compare.compare,
        "/v1/comparisons/{id}/scores": compare.scores,
        "/v1/comparisons/{id}/choice": compare.choose,
    }
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()]
    routes += [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
    handlers = {Refusal: _refused, HTTPException: _unknown, Exception: _failed}
    inner = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
    inner.router.redirect_slashes = False
    return Guard(_logged(inner), front.config, key, front.figures)


def _refused(_request: Request, refusal: Refusal) -> Response:
    return refusal.response()


def _unknown(request: Request, error: HTTPException) -> Response:
    """No such place, or no such method there."""
    message = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.method} is not answered here"}
    return Refusal(error.status_code, message.get(error.status_code, str(error.detail))).response()


def _failed(_request: Request, _error: Exception) -> Response:
    return Refusal(500, "something went wrong here; the server's log says what").response()


def _logged(inner: Starlette) -> App:
    """What nobody foresaw is written to the log; starlette answers it by `_failed`, and raises it again."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        except Exception:  # noqa: BLE001 - logged whole, and answered already
            _log.exception("%s %s failed", scope["method"], scope["path"])

    return answer
