"""The trivial function on bare Starlette and uvicorn, one process: what HTTP in Python costs when nothing else is wanted.

It reads the same body and writes the same answer as the declared function, and does nothing more: no checks, no batches, no deadline.
"""

from __future__ import annotations

import sys

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.bench.trivial import answer

PATH = "/trivial"


async def call(request: Request) -> Response:
    """``{"x": 1.5}`` in, ``{"answer": 3.0}`` out."""
    row = orjson.loads(await request.body())
    return Response(orjson.dumps({"answer": answer(row["x"])}), media_type="application/json")


app = Starlette(routes=[Route(PATH, call, methods=["POST"])])


def main() -> None:
    """Serves on loopback at the port given."""
    port = int(sys.argv[1])
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
