"""A file's functions, served in the process of a test: ``docs/testing.md``.

    with serve("serve_config.yaml") as app:
        assert app.hello(name="bo") == {"greeting": "hello bo"}

A thread runs what ``wakeful run`` runs: the same library of functions, batching, sequences, streams
and routes, on a free port of the loopback interface. A function loads with its first call. Stages
run in this process, so a test may replace what they call, and reads what they print.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
import numpy as np
import uvloop

from runtime.artifacts.python_imports import ImportScanner
from runtime.artifacts.version import stage_modules
from runtime.declaration import config_file
from runtime.declaration.function_spec import DeclaredSpec, FunctionSpec
from runtime.errors import CallError, NotFound
from runtime.graph.resolve import ResolvedConfig, resolve
from runtime.http.server import library_app, make_library
from runtime.http.transport.contract import look
from runtime.http.transport.listening_server import ListeningServer
from runtime.protocol.json_text import dumps
from runtime.protocol.tensor_codec import decode_binary, encode_binary
from runtime.settings import Settings
from runtime.system.messages import did_you_mean
from runtime.types.tensors import from_numpy

__all__ = ["CallError", "FunctionClient", "SequenceClient", "ServedFunctions", "serve"]

START_TIMEOUT_S: Final = 30.0
"""Longest wait for the port; no function is loaded before it is open."""

STOP_TIMEOUT_S: Final = 10.0
"""Longest wait for calls that still run, for functions to close, and for their threads."""

END_S: Final = 1.0
"""Of that, for calls whose answers no test has waited for; then they are cancelled."""

CALL_TIMEOUT_S: Final = 600.0
"""Longest silence of a server; a function's ``request_timeout_s`` is shorter."""

HEADER_LENGTH: Final = "inference-header-content-length"


class ServedFunctions:
    """The functions of a file, each as an attribute or, by any name, as an item.

    Attributes:
        http: a client of everything that the server answers, such as
            ``app.http.get("/v2/models/hello")``.
        url: of the server.
    """

    def __init__(
        self,
        http: httpx.Client,
        functions: Sequence[FunctionSpec],
        media_types: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.http = http
        self.url = str(http.base_url).rstrip("/")
        self._functions = {
            spec.name: FunctionClient(
                http, spec.name, spec.route_prefix, media_types.get(spec.name, "")
            )
            for spec in functions
        }

    def __getattr__(self, name: str) -> FunctionClient:
        if name.startswith("__"):  # of Python's own protocols
            raise AttributeError(name)
        try:
            return self[name]
        except NotFound as error:
            raise AttributeError(str(error)) from None

    def __getitem__(self, name: str) -> FunctionClient:
        if name not in self._functions:
            others = ", ".join(self._functions) or "none"
            hint = did_you_mean(name, list(self._functions)) or f"; there are: {others}."
            raise NotFound(f"the file has no function {name!r}{hint}")
        return self._functions[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._functions]


class FunctionClient:
    """Calls one function.

    Attributes:
        path: where it answers, for ``ServedFunctions.http``.
        media_type: of the file that it answers, or the range of it; empty where that is JSON.
    """

    def __init__(self, http: httpx.Client, name: str, path: str, media_type: str = "") -> None:
        self._http = http
        self._name = name
        self.path = path
        self.media_type = media_type

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._name} at {self.path}>"

    def __call__(self, /, **fields: Any) -> Any:
        """Call it with one row and return its answer, as JSON has it; of a function that streams,
        the list of its items; of one that answers a file, the bytes of it.

        Args:
            fields: of the row. Arrays become lists, ``bytes`` base64 text.

        Raises:
            CallError: it was refused, or failed.
        """
        return self._call(fields)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Call it with several rows and return an answer for each, in their order; a row that is
        refused or fails has its ``CallError`` there.

        Raises:
            CallError: the whole call was refused.
        """
        return [
            _error(answer, 500) if _is_error(answer) else answer
            for answer in self._post([dict(row) for row in rows]).json()
        ]

    def stream(self, /, **fields: Any) -> Iterator[Any]:
        """Yield the items of an answer as they are computed. To stop reading ends the call.

        Raises:
            CallError: the call was refused, or failed after some items.
        """
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        with self._http.stream(
            "POST", self.path, content=dumps(fields), headers=headers
        ) as response:
            if not response.is_success:
                response.read()
                raise _error_of(response)
            event = ""
            for line in _lines(response.iter_bytes()):
                kind, _, text = line.partition(": ")
                if kind == "event":
                    event = text
                elif kind == "data" and event == "error":
                    raise _error(json.loads(text), 500)
                elif kind == "data" and not event:
                    yield json.loads(text)

    def infer(self, /, **tensors: np.ndarray) -> dict[str, np.ndarray]:
        """Call it by the Open Inference Protocol, with its binary data both ways.

        Args:
            tensors: by name, the first axis being the rows where the function has rows.

        Raises:
            CallError: it was refused, or failed.
        """
        return self._infer(tensors, {})

    @contextlib.contextmanager
    def sequence(self, sequence_id: str) -> Iterator[SequenceClient]:
        """Call it as one sequence: the first call begins it, ``last`` ends it."""
        yield SequenceClient(self, sequence_id)

    def _call(self, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Call it with one row, as ``__call__``."""
        if not self.media_type:
            return self._post(fields, headers).json()
        return self._post(fields, {"accept": self.media_type, **(headers or {})}).content

    def _post(self, body: Any, headers: Mapping[str, str] | None = None) -> httpx.Response:
        sent = {"content-type": "application/json", "accept": "application/json", **(headers or {})}
        response = self._http.post(self.path, content=dumps(body), headers=sent)
        if not response.is_success:
            raise _error_of(response)
        return response

    def _infer(
        self, tensors: Mapping[str, np.ndarray], headers: Mapping[str, str]
    ) -> dict[str, np.ndarray]:
        head, chunks = _encode_tensors(tensors)
        sent = {
            "content-type": "application/octet-stream",
            HEADER_LENGTH: str(len(head)),
            **headers,
        }
        response = self._http.post(
            f"{self.path}/infer", content=b"".join([head, *chunks]), headers=sent
        )
        if not response.is_success:
            raise _error_of(response)
        return _decode_tensors(response)


class SequenceClient:
    """Calls of one sequence, made one after another."""

    def __init__(self, function: FunctionClient, sequence_id: str) -> None:
        self._function = function
        self._id = sequence_id
        self._has_begun = False

    def __call__(self, /, **fields: Any) -> Any:
        """As of ``FunctionClient``."""
        return self._function._call(fields, self._headers())

    def last(self, /, **fields: Any) -> Any:
        """As a call, after which nothing is kept of the sequence."""
        return self._function._call(fields, self._headers() | {"x-sequence-end": "1"})

    def infer(self, /, **tensors: np.ndarray) -> dict[str, np.ndarray]:
        """As of ``FunctionClient``."""
        return self._function._infer(tensors, self._headers())

    def _headers(self) -> dict[str, str]:
        begins = {} if self._has_begun else {"x-sequence-start": "1"}
        self._has_begun = True
        return {"x-sequence-id": self._id, **begins}


@contextlib.contextmanager
def serve(file: Path | str = "serve_config.yaml") -> Iterator[ServedFunctions]:
    """Serve the functions of a file until the block ends.

    Stages are imported from the file's folder (or ``WAKEFUL_ROOT``), where relative paths of models
    start as well. The environment's settings hold, but for host and port.

    Raises:
        DeclarationError: with everything that is wrong with the file.
        ImportError: a module that a stage needs is imported already, from another folder.
        RuntimeError: the server did not end, since a stage does not return.
    """
    path = Path(file).resolve()
    settings = Settings.read(file=path)
    declared = config_file.read(file)
    with _importing_from(str(settings.root), str(path.parent)):
        _refuse_other_modules(declared.functions)
        with _served(resolve(declared, settings), settings) as served:
            yield served


@contextlib.contextmanager
def _importing_from(*folders: str) -> Iterator[None]:
    """Python looks for modules there first, until the block ends."""
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def _refuse_other_modules(functions: Sequence[DeclaredSpec]) -> None:
    """Python has one module of a name: that of a project which was served or imported before would
    answer for this one.
    """
    names = [name for spec in functions for name in stage_modules(spec)]
    for name, source in ImportScanner().reach(names).items():
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and source.file and Path(loaded).resolve() != source.file.resolve():
            raise ImportError(
                f"{source.file} is wanted, and this process has the module {name!r} of {loaded}."
                " Name one of them otherwise, or serve the two in processes of their own."
            )


@contextlib.contextmanager
def _served(config: ResolvedConfig, settings: Settings) -> Iterator[ServedFunctions]:
    with (
        _running(config, settings) as port,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=CALL_TIMEOUT_S, trust_env=False
        ) as http,
    ):
        media_types = {
            name: assembly.graph.media_type
            for name, assembly in config.assemblies.items()
            if assembly.graph is not None
        }
        functions = [spec for spec in config.functions if not spec.deployed.part_of]
        yield ServedFunctions(http, functions, media_types)


@contextlib.contextmanager
def _running(config: ResolvedConfig, settings: Settings) -> Iterator[int]:
    """The server in a thread of its own; gives its port."""
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def run() -> None:
        try:
            uvloop.run(_serve(config, settings, started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="wakeful.testing", daemon=True)
    thread.start()
    port, loop, may_end = started.result(START_TIMEOUT_S)
    try:
        yield port
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has ended by a fault of its own
            loop.call_soon_threadsafe(may_end.set)
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            raise RuntimeError(
                f"the functions have not closed within {STOP_TIMEOUT_S:g} s: a stage, or what "
                "constructs it, does not return."
            )


async def _serve(
    config: ResolvedConfig,
    settings: Settings,
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]],
) -> None:
    library, workers = make_library(config.functions, settings, config.assemblies)
    # each unload collects garbage, and need not look at what the tests have made before: 40 to 160
    # ms with the interpreter's lock, where 250 functions did not close in time
    is_ours = not gc.get_freeze_count()
    gc.freeze()
    unloader = asyncio.create_task(library.run_idle_unloader())
    may_end = asyncio.Event()
    try:
        app = library_app(library, cors=config.file.cors)
        async with serving(app, access_log=False, **look().options) as port:
            started.set_result((port, asyncio.get_running_loop(), may_end))
            await may_end.wait()
    finally:
        unloader.cancel()
        await library.close()
        # longer than the block waits, which then says so
        await asyncio.to_thread(workers.close, 2 * STOP_TIMEOUT_S)
        if is_ours:
            gc.unfreeze()


@contextlib.asynccontextmanager
async def serving(app: Any, port: int = 0, **more: Any) -> AsyncIterator[int]:
    """Serve an ASGI application in this event loop until the block ends; give its port.

    Args:
        more: of ``uvicorn.Config``.
    """
    with socket.create_server(("127.0.0.1", port), backlog=1000) as listener:
        server = ListeningServer(app, log_level="error", **more)
        await server.start([listener])
        try:
            yield listener.getsockname()[1]
        finally:
            await server.close(END_S)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines that end in a line feed alone: JSON's texts may hold other ends of lines."""
    parts: list[bytes] = []
    for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*parts, end]).decode()
            parts.clear()
        parts.append(rest)


def _is_error(answer: Any) -> bool:
    """Whether an answer of several is in the error form."""
    return isinstance(answer, dict) and answer.keys() == {
        "error",
        "code",
        "where",
        "request_id",
        "status",
    }


def _error(body: Mapping[str, Any], status: int) -> CallError:
    return CallError(
        body.get("status", status), body.get("code", ""), body.get("where", ""), body["error"]
    )


def _error_of(response: httpx.Response) -> CallError:
    try:
        return _error(response.json(), response.status_code)
    except (ValueError, TypeError, KeyError, AttributeError):  # not an answer of a function's
        return CallError(response.status_code, "", "", response.text)


def _encode_tensors(
    tensors: Mapping[str, np.ndarray],
) -> tuple[bytes, list[bytes | memoryview]]:
    """Return the JSON of a request, and the binary data behind it."""
    inputs, chunks = [], []
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        datatype = from_numpy(array.dtype)
        chunk = encode_binary(array, datatype, name)
        size = {"binary_data_size": len(chunk)}
        inputs.append(
            {"name": name, "datatype": datatype, "shape": array.shape, "parameters": size}
        )
        chunks.append(chunk)
    return dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}), chunks


def _decode_tensors(response: httpx.Response) -> dict[str, np.ndarray]:
    length = int(response.headers.get(HEADER_LENGTH, len(response.content)))
    start, arrays = length, {}
    for index, output in enumerate(json.loads(response.content[:length])["outputs"]):
        size = output["parameters"]["binary_data_size"]
        shape = output["shape"]
        arrays[output["name"]] = decode_binary(
            response.content,
            start,
            size,
            output["datatype"],
            shape,
            int(np.prod(shape)),
            f"outputs[{index}]",
        )
        start += size
    return arrays
