"""The routes that belong to no function: server metadata, health, the index, metrics. Requests here
load no function.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.errors import MethodNotAllowed, NotFound, TooLarge, UnknownInput, WakefulError
from runtime.http.catalogue.openapi import Describe
from runtime.http.catalogue.openapi_routes import openapi_routes
from runtime.http.exchange import MAX_ID_LENGTH, to_client_error
from runtime.library.residency import Repository
from runtime.protocol.json_text import dumps, loads
from runtime.system.messages import did_you_mean_path, list_names
from runtime.system.telemetry.metrics import CONTENT_TYPE

PATHS_TTL_S: Final = 1.0
"""How long the functions' paths are remembered for hints at an unknown path: the whole index takes
10 ms for a thousand functions.
"""

Index = Callable[[], Awaitable[list[dict[str, Any]]]]
"""Returns every declared function: ``name``, ``state``, ``url`` (its path), ``reason``,
``description``, ``part_of`` (of a split stage), ``kept`` (it is kept awake for now),
``memory_bytes`` (0: it holds none), ``last_wake`` (its last cold start, or None).
"""

Explain = Callable[[str], Awaitable[dict[str, Any]]]
"""Returns one function by name, as in the index and with its ``decisions``; raises ``NotFound``."""

_V2_STATES = {"ready": "READY", "waking": "LOADING", "draining": "UNLOADING"}


MAX_PARAMETERS_BYTES: Final = 64 << 10
"""Of a request to load or unload; what a client sends beyond is not read."""


def catalogue(
    index: Index,
    explain: Explain | None = None,
    metrics: Callable[[], bytes] | None = None,
    repository: Repository | None = None,
    describe: Describe | None = None,
) -> Starlette:
    """Return the catalogue's application.

    Args:
        index: called on each request; must not load a function.
        explain: called at ``/functions/NAME``; without it there is no such route.
        metrics: returns them in Prometheus' text form; without it there is no ``/metrics``.
        repository: loads, unloads and pins functions; without it there are no such routes.
        describe: of the functions, for ``/openapi.json``; without it there is no such route.
    """

    paths: list[str] = []
    read_at = -math.inf

    async def list_paths() -> list[str]:
        nonlocal paths, read_at
        now = time.monotonic()
        if now >= read_at + PATHS_TTL_S:
            paths, read_at = [f["url"] for f in await index() if not f.get("part_of")], now
        return paths

    async def get_server(request: Request) -> Response:
        return _json(
            {
                "name": "wakeful",
                "version": importlib.metadata.version("wakeful"),
                "extensions": [
                    "binary_tensor_data",
                    *([] if repository is None else ["model_repository"]),
                ],
            }
        )

    async def get_live(request: Request) -> Response:
        return _json({"live": True})

    async def get_ready(request: Request) -> Response:
        failed = [function["name"] for function in await index() if function["state"] == "failed"]
        return _json({"ready": not failed, "failed": failed}, 503 if failed else 200)

    async def get_repository(request: Request) -> Response:
        return _json(
            [
                {
                    "name": function["name"],
                    "version": "1",
                    "state": _V2_STATES.get(function["state"], "UNAVAILABLE"),
                    "reason": function["reason"] or function["state"],
                }
                for function in await index()
                if not function.get("part_of")  # no client can call it
            ]
        )

    async def get_index(request: Request) -> Response:
        return _json({"functions": await index()})

    async def get_function(request: Request) -> Response:
        assert explain is not None
        try:
            return _json(await explain(request.path_params["name"]))
        except NotFound as error:
            return _error(error, request)

    async def change_repository(request: Request) -> Response:
        name, verb = request.path_params["name"], request.path_params["verb"]
        act = _repository_action(repository, verb)
        if act is None:
            return await refuse(request, HTTPException(404))
        if request.method != "POST":
            return await refuse(request, HTTPException(405))
        try:
            await _refuse_parameters(request, verb)
            if name in {of["name"] for of in await index() if of.get("part_of")}:
                raise NotFound("no client can call it; it is a stage of a function.")
            await act(name)
        except Exception as error:  # every fault becomes a response here
            request_id = request.headers.get("x-request-id", "")[:MAX_ID_LENGTH]
            return _error(to_client_error(error, request_id), request)
        return _json({})

    async def get_metrics(request: Request) -> Response:
        assert metrics is not None
        return Response(metrics(), media_type=CONTENT_TYPE)

    async def refuse(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        if isinstance(error, HTTPException) and error.status_code == 405:
            return _error(MethodNotAllowed(f"{request.method} is not for this route."), request)
        paths = await list_paths()
        hint = did_you_mean_path(path, paths) or f"; there are {list_names(paths)}."
        return _error(NotFound(f"no function or route answers here{hint}"), request)

    routes = [
        Route("/", get_index),
        Route("/v2", get_server),
        Route("/v2/health/live", get_live),
        Route("/v2/health/ready", get_ready),
        Route("/v2/repository/index", get_repository, methods=["GET", "POST"]),
    ]
    if repository is not None:
        path = "/v2/repository/models/{name}/{verb}"
        routes.append(Route(path, change_repository, methods=["GET", "POST"]))
    if explain is not None:
        routes.append(Route("/functions/{name}", get_function))
    if metrics is not None:
        routes.append(Route("/metrics", get_metrics))
    if describe is not None:
        routes += openapi_routes(describe, [route.path for route in routes])
    return Starlette(routes=routes, exception_handlers={404: refuse, 405: refuse})


def _repository_action(
    repository: Repository | None, verb: str
) -> Callable[[str], Awaitable[None]] | None:
    """Return what a verb in the path does."""
    assert repository is not None
    actions = {
        "load": repository.load,
        "unload": repository.unload,
        "pin": repository.pin,
        "unpin": repository.unpin,
    }
    return actions.get(verb)


async def _refuse_parameters(request: Request, verb: str) -> None:
    """Read the body of a request to load or unload, in which Triton's clients may give a model.

    Raises:
        RequestError: it gives one, or is not JSON.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_PARAMETERS_BYTES:
            raise TooLarge(f"a request to {verb} has at most {MAX_PARAMETERS_BYTES} bytes.")
    data = loads(bytes(body)) if body.strip() else {}
    given = data.get("parameters") if isinstance(data, dict) else None
    if isinstance(given, dict) and (keys := given.keys() - {"unload_dependents"}):
        raise UnknownInput(
            "the file of declarations says what a function consists of, not a request: `wakeful"
            " up` takes another one. Leave `parameters` out.",
            where=f"parameters.{min(keys)[:MAX_ID_LENGTH]}",
        )


def _json(content: Any, status: int = 200) -> Response:
    return Response(dumps(content), status, media_type="application/json")


def _error(error: WakefulError, request: Request) -> Response:
    request_id = request.headers.get("x-request-id", "")[:MAX_ID_LENGTH]
    return _json(error.body(request_id), error.status)
