"""The routes that belong to no function: server metadata, health, the index. Looking at them wakes nobody."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.errors import MethodNotAllowed, NotFound, WakefulError
from runtime.metrics import CONTENT_TYPE
from runtime.wire.jsontext import dumps
from runtime.wording import did_you_mean

Index = Callable[[], Awaitable[list[dict[str, Any]]]]
"""Every declared function: ``name``, ``state``, ``url`` (its path), ``reason``, ``description``."""

_V2_STATES = {"ready": "READY", "waking": "LOADING", "draining": "UNLOADING"}


Explain = Callable[[str], Awaitable[dict[str, Any]]]
"""One function by name, as in the index and with its ``decisions``; raises ``NotFound``."""


def catalogue(index: Index, explain: Explain | None = None, metrics: Callable[[], bytes] | None = None) -> Starlette:
    """The catalogue over whoever knows the functions.

    Args:
        index: asked on each look; must not wake a function.
        explain: asked at ``/functions/NAME``; without it there is no such route.
        metrics: gives them in Prometheus' text form; without it there is no ``/metrics``.
    """

    async def server(request: Request) -> Response:
        return _json(
            {"name": "wakeful", "version": importlib.metadata.version("wakeful"), "extensions": ["binary_tensor_data", "model_repository"]}
        )

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        failed = [function["name"] for function in await index() if function["state"] == "failed"]
        return _json({"ready": not failed, "failed": failed}, 503 if failed else 200)

    async def repository(request: Request) -> Response:
        functions = await index()
        return _json(
            [
                {"name": f["name"], "version": "1", "state": _V2_STATES.get(f["state"], "UNAVAILABLE"), "reason": f["reason"] or f["state"]}
                for f in functions
            ]
        )

    async def home(request: Request) -> Response:
        return _json({"functions": await index()})

    async def function(request: Request) -> Response:
        assert explain is not None
        try:
            return _json(await explain(request.path_params["name"]))
        except NotFound as error:
            return _error(error, request)

    async def numbers(request: Request) -> Response:
        assert metrics is not None
        return Response(metrics(), media_type=CONTENT_TYPE)

    async def refused(request: Request, error: Exception) -> Response:
        path = request.url.path
        if isinstance(error, HTTPException) and error.status_code == 405:
            return _error(MethodNotAllowed(f"{request.method} is not for this route."), request)
        urls = {f["url"]: f["name"] for f in await index()}
        hint = did_you_mean(path[:128], urls) or f"; there are {', '.join(urls) or 'none'}."
        return _error(NotFound(f"no function or route answers here{hint}"), request)

    routes = [
        Route("/", home),
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/repository/index", repository, methods=["GET", "POST"]),
    ]
    if explain is not None:
        routes.append(Route("/functions/{name}", function))
    if metrics is not None:
        routes.append(Route("/metrics", numbers))
    return Starlette(routes=routes, exception_handlers={404: refused, 405: refused})


def _json(content: Any, status: int = 200) -> Response:
    return Response(dumps(content), status, media_type="application/json")


def _error(error: WakefulError, request: Request) -> Response:
    return _json(error.body(request.headers.get("x-request-id", "")[:128]), error.status)
