"""A trivial function, and one that answers a file, on bare Starlette and uvicorn, one process: what
HTTP in Python costs.

They read the same bodies and write the same answers as the declared functions, without checks,
batches or a deadline. ``uvicorn loadtests.bench.bare_uvicorn:app`` serves it.
"""

from __future__ import annotations

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.stages import answer, large_file


async def call(request: Request) -> Response:
    """``{"x": 1.5}`` in, ``{"answer": 3.0}`` out; a GET says that it serves."""
    row = orjson.loads(await request.body() or b'{"x": 0}')
    return Response(orjson.dumps({"answer": answer(row["x"])}), media_type="application/json")


async def send_file(request: Request) -> Response:
    """A file of ``FILE_BYTES``, out of memory."""
    orjson.loads(await request.body() or b"{}")
    return Response(large_file(), media_type="application/octet-stream")


app = Starlette(
    routes=[
        Route("/trivial", call, methods=["GET", "POST"]),
        Route("/file", send_file, methods=["GET", "POST"]),
    ]
)
