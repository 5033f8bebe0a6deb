"""The routes that belong to no function: server metadata, health, the index, metrics. Requests here
load no function.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import (
    MethodNotAllowed,
    NotFound,
    SlowUpload,
    TooLarge,
    UnknownInput,
    WrongDatatype,
)
from runtime.http.asgi import UPLOAD_TIMEOUT_S
from runtime.http.bodies.accept import read_ranges, weigh
from runtime.http.catalogue.cached_views import CachedText, CachedView, entries_last_s, text_lasts_s
from runtime.http.catalogue.console.routes import Console
from runtime.http.catalogue.key_view import KeyView
from runtime.http.catalogue.openapi import Describe
from runtime.http.catalogue.openapi_parts import CAPTURE, REPOSITORY
from runtime.http.catalogue.openapi_routes import openapi_routes
from runtime.http.exchange import SCOPE_KEY, error_headers, normalized_path, to_client_error
from runtime.http.exchange import Request as OuterRequest
from runtime.http.request_headers import MAX_ID_LENGTH, printable_id
from runtime.library.capture.control import CaptureControl, read_order
from runtime.library.residency import FunctionRepository
from runtime.protocol.json_text import dumps, loads
from runtime.system.messages import KnownPaths, list_names, path_hint
from runtime.system.telemetry.counters import DISCONNECTED
from runtime.system.telemetry.metrics import CONTENT_TYPE

Endpoint = Callable[[Request], Awaitable[Response]]

Index = Callable[[], Awaitable[list[dict[str, Any]]]]
"""Returns every declared function: ``name``, ``state``, ``url`` (its path), ``reason``,
``description``, ``part_of`` (of a split stage), ``kept`` (it is kept awake for now) and ``pinned``
(by a pin), ``memory_bytes`` (0: it holds none), ``last_wake`` (its last cold start, or None),
``last_minute`` (its calls, as of ``Traffic``).
"""

Explain = Callable[[str], Awaitable[dict[str, Any]]]
"""Returns one function by name, as in the index and with its ``decisions``; raises ``NotFound``."""

_V2_STATES = {"ready": "READY", "waking": "LOADING", "draining": "UNLOADING"}


MAX_PARAMETERS_BYTES: Final = 64 << 10
"""Of a request to load or unload; what a client sends beyond is not read."""


def catalogue(
    index: Index,
    paths: Callable[[], KnownPaths],
    explain: Explain | None = None,
    metrics: Callable[[], Awaitable[bytes]] | None = None,
    repository: FunctionRepository | None = None,
    describe: Describe | None = None,
    captures: CaptureControl | None = None,
    console: Console | None = None,
) -> Starlette:
    """Return the catalogue's application.

    Args:
        index: called when it is looked at (``cached_views``); must not load a function.
        paths: of the functions that clients may call; asked at each path that leads nowhere.
        explain: called at ``/functions/NAME``; without it there is no such route.
        metrics: returns them in Prometheus' text form; without it there is no ``/metrics``.
        repository: loads, unloads and pins functions; without it there are no such routes.
        describe: of the functions, for ``/openapi.json``; without it there is no such route.
        captures: has calls recorded; without it there is no such route.
        console: shows all of it to browsers; without it ``/docs`` is what they see first.
    """

    functions = CachedView(index, entries_last_s)
    written_index, written_numbers = CachedText(_write_index), CachedText(_write_numbers)
    written_repository = {
        only_ready: CachedText(functools.partial(_write_repository, only_ready=only_ready))
        for only_ready in (False, True)
    }

    numbers = None
    if metrics is not None:  # whose text is short where most functions sleep
        numbers = CachedView(metrics, lambda text: max(text_lasts_s(text), entries_last_s(paths())))

    async def get_server(request: Request) -> Response:
        return _json(
            {
                "name": "wakeful",
                "version": importlib.metadata.version("wakeful"),
                "extensions": [
                    "binary_tensor_data",
                    "model_configuration",
                    "statistics",
                    *([] if repository is None else ["model_repository"]),
                ],
            }
        )

    async def get_live(request: Request) -> Response:
        return _json({"live": True})

    async def seen_by(request: Request) -> list[dict[str, Any]]:
        return _seen(await functions.read(), _view_of(request))

    async def get_ready(request: Request) -> Response:
        failed = {
            function["name"]: function["reason"]
            for function in await seen_by(request)
            if function["state"] == "failed"
        }
        content = {"ready": not failed, "failed": list(failed)}
        return _json({**content, "reasons": failed}, 503) if failed else _json(content)

    async def get_repository(request: Request) -> Response:
        only_ready = (await _read_object(request)).get("ready", False)
        if type(only_ready) is not bool:
            raise WrongDatatype("true or false is wanted.", where="ready")
        every = await functions.read()
        return _json_text(written_repository[only_ready].text_of(every, _view_of(request)))

    async def get_index(request: Request) -> Response:
        page = "console" if console is not None else "docs" if describe is not None else ""
        if page and _is_browser(request):
            # relative: a proxy in front may have a prefix of its own
            return Response(status_code=303, headers={"location": page, **_BY_ACCEPT})
        text = written_index.text_of(await functions.read(), _view_of(request))
        response = _json_text(text)
        response.headers.update(_BY_ACCEPT)
        return response

    async def get_function(request: Request) -> Response:
        assert explain is not None
        name, view = request.path_params["name"], _view_of(request)
        if view is None:
            return _json(await explain(name))
        view.require(name)
        return _json(view.explanation(await explain(name), await functions.read()))

    async def change_repository(request: Request) -> Response:
        name, verb = request.path_params["name"], request.path_params["verb"]
        act = _repository_action(repository, verb)
        if act is None:
            return await refuse(request, HTTPException(404))
        await _refuse_parameters(request)
        await change(request, name, act)
        return _json({})

    async def change(request: Request, name: str, act: Callable[[str], Awaitable[None]]) -> None:
        await refuse_hidden(request, name)
        await act(name)
        functions.forget()

    async def change_in_console(request: Request, name: str, verb: str) -> None:
        act = _repository_action(repository, verb)
        assert act is not None
        await change(request, name, act)

    async def refuse_hidden(request: Request, name: str) -> None:
        if (view := _view_of(request)) is not None:
            view.require(name)
        if any(of["name"] == name and of.get("part_of") for of in await functions.read()):
            raise NotFound("no client can call it; it is a stage of a function.")

    async def change_capture(request: Request) -> Response:
        assert captures is not None
        name = request.path_params["name"]
        await refuse_hidden(request, name)
        if request.method == "POST":
            order = read_order(await _read_object(request), time.time())
            status = await captures.start(name, order)
        elif request.method == "DELETE":
            status = await captures.stop(name)
        else:
            status = await captures.status(name)
        return _json(asdict(status))

    async def get_metrics(request: Request) -> Response:
        assert numbers is not None
        text = written_numbers.text_of(await numbers.read(), _view_of(request))
        return Response(text, media_type=CONTENT_TYPE)

    async def paths_seen_by(request: Request) -> KnownPaths:
        if _view_of(request) is None:
            return paths()
        seen = await seen_by(request)
        return KnownPaths(one["url"] for one in seen if not one.get("part_of"))

    async def refuse(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        if isinstance(error, HTTPException) and error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "").split(", ")
            return _answer_error(request, MethodNotAllowed.of(sorted(allowed)))
        try:
            known = await paths_seen_by(request)
        except Exception as fault:  # as of ``_with_error_form``
            return _answer_error(request, fault)
        hint = path_hint(path, known) or f"; there are {list_names(known)}."
        return _answer_error(request, NotFound(f"no function or route answers here{hint}"))

    routes = [
        Route("/", get_index),
        Route("/v2", get_server),
        Route("/v2/health/live", get_live),
        Route("/v2/health/ready", get_ready),
        Route("/v2/repository/index", get_repository, methods=["GET", "POST"]),
    ]
    if captures is not None:
        routes.append(Route(CAPTURE, change_capture, methods=["GET", "POST", "DELETE"]))
    if repository is not None:
        routes.append(Route(REPOSITORY, change_repository, methods=["POST"]))
    if explain is not None:
        routes.append(Route("/functions/{name}", get_function))
    if metrics is not None:
        routes.append(Route("/metrics", get_metrics))
    if describe is not None:
        routes += openapi_routes(describe, [route.path for route in routes])
    if console is not None:
        routes += console.routes(change_in_console)
    routes = [
        Route(route.path, _with_error_form(route.endpoint), methods=list(route.methods or ()))
        for route in routes
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_NormalizedPaths)],
        exception_handlers={404: refuse, 405: refuse},
    )


class _NormalizedPaths:
    """Routes are chosen by the path that HAProxy has compared, as of ``Request.path``: the one of
    ASGI is decoded once more, and `/v2%2Frepository/...` would be a route of ours to it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"%" in (raw_path := scope.get("raw_path") or b""):
            scope = {**scope, "path": normalized_path(scope["path"], raw_path)}
        await self._app(scope, receive, send)


def _view_of(request: Request) -> KeyView | None:
    """What the request sees; None: everything."""
    return KeyView.of(request.scope["headers"])


def _seen(functions: list[dict[str, Any]], view: KeyView | None) -> list[dict[str, Any]]:
    return functions if view is None else view.entries(functions)


def _write_index(functions: list[dict[str, Any]], view: KeyView | None) -> bytes:
    return dumps({"functions": _seen(functions, view)})


def _write_numbers(page: bytes, view: KeyView | None) -> bytes:
    return page if view is None else view.metrics(page)


def _write_repository(
    functions: list[dict[str, Any]], view: KeyView | None, *, only_ready: bool
) -> bytes:
    return dumps(
        [
            {
                "name": function["name"],
                "version": "1",
                "state": _V2_STATES.get(function["state"], "UNAVAILABLE"),
                "reason": function["reason"] or function["state"],
            }
            for function in _seen(functions, view)
            if not function.get("part_of")  # no client can call it
            and (function["state"] == "ready" or not only_ready)
        ]
    )


_BY_ACCEPT: Final = {"vary": "accept"}


def _is_browser(request: Request) -> bool:
    """Whether a page is rather wanted than JSON. A program that takes anything gets JSON."""
    ranges = read_ranges(request.headers.getlist("accept"))
    return weigh("text/html", ranges)[0] > weigh("application/json", ranges)[0]


def _repository_action(
    repository: FunctionRepository | None, verb: str
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


async def _refuse_parameters(request: Request) -> None:
    """Read the body of a request to load or unload, in which Triton's clients may give a model.

    Raises:
        RequestError: it gives one, or as of ``_read_object``.
    """
    given = (await _read_object(request)).get("parameters")
    if isinstance(given, dict) and (keys := given.keys() - {"unload_dependents"}):
        raise UnknownInput(
            "the file of declarations says what a function consists of, not a request: `wakeful"
            " up` takes another one. Leave `parameters` out.",
            where=f"parameters.{min(keys)[:MAX_ID_LENGTH]}",
        )


async def _read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request; an empty one where there is none.

    Raises:
        RequestError: the body is something else, too large, or late.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_PARAMETERS_BYTES:
                    raise TooLarge(f"a body has at most {MAX_PARAMETERS_BYTES} bytes here.")
    except TimeoutError:
        raise SlowUpload(f"the body did not arrive within {UPLOAD_TIMEOUT_S:g} s.") from None
    data = loads(bytes(body)) if body.strip() else {}
    if not isinstance(data, dict):
        raise WrongDatatype("the body is a JSON object, or empty.")
    return data


def _json(content: Any, status: int = 200) -> Response:
    return _json_text(dumps(content), status)


def _json_text(text: bytes, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _answer_error(request: Request, error: Exception) -> Response:
    request_id = printable_id(request.headers.get("x-request-id", "").encode("latin-1"))
    shown = to_client_error(error, request_id)
    outer: OuterRequest | None = request.scope.get(SCOPE_KEY)
    if outer is not None:  # which is told of when it is over
        outer.record.code, outer.record.reason = shown.code, shown.message
    response = _json(shown.body(request_id), shown.status)
    response.raw_headers += error_headers(shown)
    return response


def _with_error_form(endpoint: Endpoint) -> Endpoint:
    """Return a route's endpoint whose every fault becomes a response. Starlette would answer those
    that it does not know in plain text, and raise them again.
    """

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except ClientDisconnect:
            return Response(status_code=DISCONNECTED)  # goes nowhere
        except Exception as error:
            return _answer_error(request, error)

    return answer
