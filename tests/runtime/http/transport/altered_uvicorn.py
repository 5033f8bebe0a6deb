"""uvicorn as later releases might be: names of its insides are changed one by one, each in a
process of its own that serves some requests, and says which way they took and what it answered.

    python -m tests.runtime.http.transport.altered_uvicorn     # a line of JSON for each name
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import logging
import os
import re
import sys
import time
import types
from typing import Any

MODULE = "uvicorn.protocols.http.httptools_impl"

PUBLIC = {
    *(name for name in dir(asyncio.Protocol) if not name.startswith("__")),
    *("on_url", "on_header", "on_headers_complete", "on_body"),
    *("on_message_begin", "on_message_complete"),
    "HttpToolsProtocol",
}
"""Names that asyncio and httptools give their callbacks, and the class that others import."""

OTHERS = {"config", "server_state", "app_state", "flow", "parser", "transport", "message_event"}
"""Objects of other modules, whose attributes keep their names."""

BODY = b'{"x": 3}'
LARGE = b"x" * 700_000
REQUESTS = {
    "GET": b"GET /a%20b?q=1 HTTP/1.1\r\nhost: t\r\n\r\n",
    "POST": b"POST /p HTTP/1.1\r\nhost: t\r\ncontent-length: 8\r\n\r\n" + BODY,
    "in chunks": b"POST /p HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
    b'8\r\n{"x": 3}\r\n0\r\n\r\n',
    "large": b"POST /large HTTP/1.1\r\nhost: t\r\ncontent-length: 700000\r\n\r\n" + LARGE,
    "two": b"POST /p HTTP/1.1\r\nhost: t\r\ncontent-length: 8\r\n\r\n"
    + BODY
    + b"GET /2 HTTP/1.1\r\n"
    b"host: t\r\n\r\n",
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
}
LAST = b"GET /last HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n"


def source() -> str:
    """Of the installed release."""
    spec = importlib.util.find_spec(MODULE)
    assert spec is not None
    assert spec.loader is not None
    text = spec.loader.get_source(MODULE)  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def names(tree: ast.Module) -> list[str]:
    """Those of attributes and methods of its classes that a release may change, and of a class."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            functions = (one for one in node.body if isinstance(one, _FUNCTIONS))
            found |= {one.name for one in functions}
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return sorted(name for name in found - PUBLIC if not name.startswith("__"))


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Renaming(ast.NodeTransformer):
    """Gives a name of the module's own another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.other = f"{name}_renamed"

    def visit(self, node: ast.AST) -> ast.AST:
        """Any node."""
        self.generic_visit(node)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and node.name == self.name:
            node.name = self.other
        if isinstance(node, ast.Name) and node.id == self.name and self.name[0].isupper():
            node.id = self.other
        if (
            isinstance(node, ast.Attribute)
            and node.attr == self.name
            and not self._is_foreign(node)
        ):
            node.attr = self.other
        return node

    @staticmethod
    def _is_foreign(node: ast.Attribute) -> bool:
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        return name in OTHERS


def alter(text: str, name: str) -> None:
    """Have this process import the module with another name for it."""
    module = types.ModuleType(MODULE)
    tree = ast.fix_missing_locations(Renaming(name).visit(ast.parse(text)))
    exec(compile(tree, MODULE, "exec"), vars(module))
    sys.modules[MODULE] = module


async def serve() -> dict[str, Any]:
    """Each request, twice on a connection."""
    from runtime.batching.reservation import BodyReservation, ByteBudget
    from runtime.http.asgi import AsgiApp
    from runtime.http.exchange import Request, json_response
    from runtime.http.request_headers import RequestDeadline
    from runtime.http.transport.contract import look
    from wakeful.testing import serving

    class Handler:
        prefix = ""
        exchanges = 0

        def is_hot(self, target: bytes) -> bool:
            return target == b"/p"

        async def handle(self, request: Request) -> Any:
            reservation = BodyReservation((ByteBudget(lambda: 1 << 26),), lambda: 1)
            deadline = RequestDeadline(time.monotonic(), 20.0)
            body = await request.read_body(1 << 26, reservation, deadline, 0)
            reservation.end()
            said = [request.method, request.path, len(body), bytes(body[:9]).decode()]
            return json_response(json.dumps(said).encode())

    answers: dict[str, list[str]] = {}
    async with serving(AsgiApp(Handler()), **look().options) as port:
        for name, request in REQUESTS.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            if name != "1.0":
                await asyncio.sleep(0.02)  # the second comes when the connection is between two
                writer.write(request + LAST)
            received = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            answers[name] = [normal(received)]
    found = look()
    way = "bare" if found.reading else "slow" if found.shortcuts else "fast"
    return {"way": way, "answers": answers}


def normal(received: bytes) -> str:
    """Without ids and times, and without an order of headers."""
    text = re.sub(r"date: [^\r]+", "date: now", received.decode())
    return re.sub(r"[0-9a-f]{32}", "id", text)


def main() -> None:
    """The installed release first, then each name."""
    logging.disable()
    text = source()
    importlib.import_module("wakeful.testing")  # here, and not in each process
    for module in [*sys.modules]:
        if module.startswith(("runtime.http", "wakeful", MODULE)):
            del sys.modules[module]
    for name in ["", *names(ast.parse(text))]:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            status = 1
            try:
                if name:
                    alter(text, name)
                print(json.dumps({"name": name, **asyncio.run(serve())}))
                status = 0
            except BaseException as error:
                print(json.dumps({"name": name, "error": repr(error)}))
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
