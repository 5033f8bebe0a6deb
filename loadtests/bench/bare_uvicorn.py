"""A trivial function on bare Starlette and uvicorn, one process: what HTTP in Python costs.

It reads the same body and writes the same answer as the declared function, without checks, batches
or a deadline. ``uvicorn loadtests.bench.bare_uvicorn:app`` serves it.
"""

from __future__ import annotations

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.stages import answer


async def call(request: Request) -> Response:
    """``{"x": 1.5}`` in, ``{"answer": 3.0}`` out; a GET says that it serves."""
    row = orjson.loads(await request.body() or b'{"x": 0}')
    return Response(orjson.dumps({"answer": answer(row["x"])}), media_type="application/json")


app = Starlette(routes=[Route("/trivial", call, methods=["GET", "POST"])])
