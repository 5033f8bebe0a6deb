"""The handler of the task routes: reads a request in the form of its route, calls the function that
it names with all its rows at once, and answers in the route's form. Errors have OpenAI's form.

A function is called as other functions call it: where it belongs, woken if it sleeps, its rows in
batches with those of all callers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from runtime.batching.calls import Call, CallOptions
from runtime.batching.reservation import BodyReservation, ByteBudget
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import (
    MalformedBody,
    MethodNotAllowed,
    MissingInput,
    ModelNotFound,
    NotFound,
    RequestError,
    UnknownInput,
    UnsupportedMediaType,
    WakefulError,
)
from runtime.execution.stages.function_stage import Outcome
from runtime.http.bodies.answers import answer_size
from runtime.http.bodies.offloading import LARGE_BYTES, Offloader, reserve_json_memory
from runtime.http.bodies.sent_files import url_of
from runtime.http.catalogue.task_routes.embeddings import dimensions_error, read_embeddings
from runtime.http.catalogue.task_routes.forms import TaskCall, raise_first_error
from runtime.http.catalogue.task_routes.moderations import read_moderations
from runtime.http.catalogue.task_routes.reranking import read_rerank
from runtime.http.exchange import (
    ClientDisconnected,
    Request,
    Response,
    error_headers,
    json_response,
    server_timing,
    to_client_error,
)
from runtime.http.function_routes import keep_answer
from runtime.http.request_headers import callable_functions, read_deadline
from runtime.library.cold_start import wake_timing
from runtime.library.library import FunctionLibrary
from runtime.library.local_calls import LocalFunctionCaller
from runtime.protocol import dumps, loads
from runtime.protocol.content_kinds import kind_of_content
from runtime.system.messages import known_names, list_names, quote_names, suggest_name
from runtime.system.peer_names import path_advice

PREFIX: Final = "/v1/"

MAX_BODY_BYTES: Final = 16 << 20
"""Of one request: 8 KB for each of 2048 texts."""

BODIES_BYTES: Final = 256 << 20
"""Of all requests at once, what is made of large ones included."""

READ_S: Final = 30.0
"""Until a request is read; from then on its function's deadline counts, from its arrival."""

RETRY_AFTER_S: Final = 1.0


class TaskFunctions(Protocol):
    """The functions behind the routes, wherever they are."""

    def find(self, name: str) -> FunctionSpec | None:
        """Return a declared function that clients may call."""

    def tasks(self) -> Mapping[str, str]:
        """Return the task of each such function that has one, by name."""

    def count(self, request: Request, name: str) -> None:
        """Count, log and trace the request as a call of a function, where no other process does,
        give it its trace, and have it recorded if it is to be.
        """

    async def call(
        self, request: Request, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """As of ``runtime.execution.stages.function_stage.FunctionCaller``; may run outside of a
        task. Where this process computes it, the request gets its ``call``.
        """


class LibraryTasks:
    """Implements ``TaskFunctions`` for a library, whose functions it may load: they are called in
    this process, without a socket.
    """

    def __init__(self, library: FunctionLibrary) -> None:
        self._library = library
        self._caller = LocalFunctionCaller(library)

    def find(self, name: str) -> FunctionSpec | None:
        """See ``TaskFunctions``."""
        entry = self._library.entries.get(name)
        return None if entry is None or entry.spec.deployed.part_of else entry.spec

    def tasks(self) -> Mapping[str, str]:
        """See ``TaskFunctions``."""
        specs = self._library.entries.specs.values()
        return {spec.name: spec.task for spec in specs if spec.task and not spec.deployed.part_of}

    def count(self, request: Request, name: str) -> None:
        """See ``TaskFunctions``."""
        request.count_as_call(self._library.counters.of(name))

    async def call(
        self, request: Request, name: str, rows: Sequence[dict[str, Any]], options: CallOptions
    ) -> Sequence[Outcome]:
        """See ``TaskFunctions``."""
        began = time.monotonic()
        is_asleep = self._library.entries.require(name).function is None

        def on_call(call: Call | None) -> None:
            record = request.record
            record.call = call  # of several parts the last
            if is_asleep and call is not None:
                record.wake_s = call.started - began
                waited = wake_timing(record.wake_s)
                request.timing = lambda: waited

        return await self._caller.call(name, rows, options, on_call)


@dataclass(frozen=True, slots=True)
class TaskRoute:
    """One route: the task of its functions, what reads its form, and a request in it."""

    task: str
    read: Callable[[Any], TaskCall]
    sample: str


ROUTES: Final[Mapping[str, TaskRoute]] = {
    "/v1/embeddings": TaskRoute("embedding", read_embeddings, '{"input": "two words"}'),
    "/v1/rerank": TaskRoute("rerank", read_rerank, '{"query": "a", "documents": ["b", "c"]}'),
    "/v1/moderations": TaskRoute("text-classification", read_moderations, '{"input": "two words"}'),
}

_HOT: Final = frozenset(path.encode() for path in ROUTES)

MODELS: Final = "/v1/models"


class TaskRoutes:
    """Implements ``runtime.http.exchange.Handler`` for paths below ``/v1/``. Used on one event
    loop.

    Mutable state: ``exchanges``; the bytes in ``body_budget``.
    """

    prefix = PREFIX

    def __init__(self, functions: TaskFunctions) -> None:
        self._functions = functions
        self._offloader = Offloader()
        self.body_budget = ByteBudget(lambda: BODIES_BYTES)
        self._started = int(time.time())
        self.exchanges = 0

    def is_hot(self, target: bytes) -> bool:
        """As of ``Handler``: what a function's ``call`` needs a task for has one there."""
        return target in _HOT

    async def handle(self, request: Request) -> Response | None:
        """Return the response; None: the path is not below ``/v1/``, nor what a client asks for
        whose base URL lacks it.

        Raises:
            ClientDisconnected: the client disconnected.
        """
        if not request.path.startswith(PREFIX):
            if (meant := PREFIX + request.path[1:]) not in (MODELS, *ROUTES):
                return None
            # OpenAI's clients show the message of an error in OpenAI's form alone
            error = NotFound(
                f"nothing answers here, did you mean {meant}? The base URL of a client ends with "
                f"{PREFIX[:-1]}."
            )
            request.error_form = task_error_response
            return request.error_response(error)
        request.error_form = task_error_response
        self.exchanges += 1
        request.at_end(self._on_end)
        try:
            return await self._answer(request)
        except ClientDisconnected:
            raise
        except Exception as error:  # every fault becomes a response here
            return request.error_response(_explain(error, request))

    def _on_end(self) -> None:
        self.exchanges -= 1

    async def _answer(self, request: Request) -> Response:
        if (route := ROUTES.get(request.path)) is not None:
            if request.method != "POST":
                raise MethodNotAllowed.of(("POST",))
            return await self._call(route, request)
        if request.path == MODELS or request.path.startswith(f"{MODELS}/"):
            if request.method not in ("GET", "HEAD"):
                if ":" in request.path and (advice := path_advice(request.path)):
                    raise NotFound(f"no such route. {advice}")  # of KServe's first protocol
                raise MethodNotAllowed.of(("GET", "HEAD"))
            seen = callable_functions(request.fields)
            return self._list_models(request.path[len(MODELS) + 1 :], seen)
        advice = path_advice(request.path)
        others = f"there are {', '.join((MODELS, *ROUTES))}."
        raise NotFound(f"no such route{f'. {advice}' if advice else f'; {others}'}")

    async def _call(self, route: TaskRoute, request: Request) -> Response:
        began, clock = time.monotonic(), time.time()
        reading = read_deadline(request.fields, READ_S, began, clock)
        reservation = BodyReservation((self.body_budget,), lambda: RETRY_AFTER_S)
        request.at_end(reservation.end)
        body = bytes(await request.read_body(MAX_BODY_BYTES, reservation, reading))
        if len(body) >= LARGE_BYTES:
            await reserve_json_memory(
                body, len(body), BODIES_BYTES, reservation, self._offloader, reading
            )
        call = await self._offloader.run(len(body), reading, lambda: route.read(loads(body)))
        spec = self._choose(route, call.model, callable_functions(request.fields))
        deadline = read_deadline(request.fields, spec.limits.request_timeout_s, began, clock)
        if deadline.at <= time.monotonic():
            raise deadline.expired_error()
        self._functions.count(request, spec.name)
        record = request.record
        if record.recording is not None:
            record.recording.keep_route(request.path, request.path, None)
        options = CallOptions(
            request.id, deadline.at, account=reservation, trace=record.trace, key=record.key
        )
        outcomes = await self._functions.call(request, spec.name, call.rows, options)
        _raise_errors(spec.name, call, outcomes)
        answers = [outcome for outcome in outcomes if not isinstance(outcome, WakefulError)]
        text = await self._offloader.run(
            answer_size(answers),
            deadline,
            lambda: dumps(call.answer(spec.name, request.id, answers)),
        )
        timing = () if record.call is None else (server_timing(record.call),)
        response = json_response(text, timing)
        if record.recording is not None:
            keep_answer(record.recording, response)
        return response

    def _choose(self, route: TaskRoute, name: str, seen: Collection[str] | None) -> FunctionSpec:
        """Return the function that a request names, or the only one of the route's task.

        Args:
            seen: the functions that the request may call; for it there are no others. None: all.

        Raises:
            ModelNotFound: there is none of that name.
            RequestError: it has another task, or none is named and there is not one alone.
        """
        if not name:
            able = self._able(route, seen)
            if len(able) != 1:
                raise MissingInput(
                    f"'model' is missing; functions of the task {route.task}: {list_names(able)}.",
                    where="model",
                )
            name = able[0]
        spec = self._functions.find(name) if seen is None or name in seen else None
        if spec is None:
            able = self._able(route, seen)
            raise ModelNotFound(
                f"no function is named {quote_names(name)}.{suggest_name(name, known_names(able))}"
                f" Functions of the task {route.task}: {list_names(able)}.",
                where="model",
            )
        if spec.task != route.task:
            what = f"has the task {spec.task}" if spec.task else "declares no task"
            raise RequestError(
                f"{spec.name!r} {what}, and this route calls functions that declare"
                f" `task: {route.task}`: {list_names(self._able(route, seen))}.",
                where="model",
            )
        return spec

    def _tasks(self, seen: Collection[str] | None) -> Mapping[str, str]:
        tasks = self._functions.tasks()
        return tasks if seen is None else {name: tasks[name] for name in tasks if name in seen}

    def _able(self, route: TaskRoute, seen: Collection[str] | None) -> list[str]:
        return [name for name, task in self._tasks(seen).items() if task == route.task]

    def _list_models(self, name: str, seen: Collection[str] | None) -> Response:
        tasks = self._tasks(seen)
        if name:
            if name not in tasks:
                raise ModelNotFound(
                    f"no function is named {quote_names(name)}, or it declares no task."
                    f"{suggest_name(name, known_names(tasks))}",
                    where="model",
                )
            return json_response(dumps(self._model_entry(name, tasks[name])))
        entries = [self._model_entry(name, task) for name, task in tasks.items()]
        return json_response(dumps({"object": "list", "data": entries}))

    def _model_entry(self, name: str, task: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "wakeful",
            "task": task,
        }


def _raise_errors(name: str, call: TaskCall, outcomes: Sequence[Outcome]) -> None:
    """Raise what went wrong with a row; that a function takes no ``dimensions`` in the request's
    words.
    """
    first = next((one for one in outcomes if isinstance(one, WakefulError)), None)
    if isinstance(first, UnknownInput) and "dimensions" in first.where:
        raise dimensions_error(name) from first
    raise_first_error(call.places, outcomes)


def _explain(error: Exception, request: Request) -> Exception:
    """Return the error that a client gets, another one where it sent a file or a form: these routes
    take neither.
    """
    route, body = ROUTES.get(request.path), request.body
    if route is None or body is None or not isinstance(error, MalformedBody):
        return error
    content_type = request.get(b"content-type").lstrip().lower()
    is_form = content_type.startswith(b"multipart/")
    what = "a form" if is_form else kind_of_content(body)
    if not what:
        return error
    host, scheme = request.get(b"host"), request.get(b"x-forwarded-proto")
    return UnsupportedMediaType(
        f"the body is {what}, and this route takes JSON: curl"
        f" {url_of(host, scheme, request.path)} -d '{route.sample}'. A function that takes files is"
        " called at its own address, such as /v2/models/NAME.",
        where="content-type",
    )


def task_error_response(error: Exception, request: Request) -> Response:
    """Return an error in OpenAI's form, whose clients raise it as theirs."""
    shown = to_client_error(error, request.id)
    body = {
        "error": {
            "message": shown.message,
            "type": error_type(shown.status),
            "code": shown.code,
            "param": shown.where or None,
        }
    }
    response = json_response(dumps(body), error_headers(shown), shown.status)
    response.code = shown.code
    return response


def error_type(status: int) -> str:
    """Return what OpenAI calls the kind of an error."""
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
