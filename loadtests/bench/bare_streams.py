"""The same items from bare Starlette and uvicorn, one process: a generator in a thread, each item an event and a write.

It checks nothing, bounds nothing and waits for every caller; ``StreamingResponse`` hops into a thread for each item.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from loadtests.bench.dripping import drip

PATH = "/drip"


async def call(request: Request) -> StreamingResponse:
    """The row of ``drip`` in, its items out as events."""
    row = orjson.loads(await request.body())

    def events() -> Iterator[bytes]:
        for item in drip(row["to"], row["spin_us"]):
            yield b"data: %b\n\n" % orjson.dumps(item)
        yield b"event: done\ndata: {}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(routes=[Route(PATH, call, methods=["POST"])])


def main() -> None:
    """Serves on loopback at the port given."""
    port = int(sys.argv[1])
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
