"""The one-connection prober, against a small server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.bench.latency import BadAnswer, Connection, probe


async def echo(request: Request) -> Response:
    """The body, so often that it takes several reads to receive."""
    return Response(await request.body() * 20_000)


async def refuse(_request: Request) -> Response:
    """Overloaded."""
    return Response("busy", 429)


APP = Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/refuse", refuse, methods=["POST"])])


def test_answers_are_read_whole_and_one_after_another(serve: Callable[[Starlette], int]) -> None:
    """Nothing of an answer is left on the connection for the next."""
    with Connection("127.0.0.1", serve(APP), "/echo", {"x": 1}) as connection:
        assert connection.post() == connection.post() == b'{"x": 1}' * 20_000
        assert len(probe(connection, 5, warm_up=1)) == 5


def test_a_refusal_is_not_measured(serve: Callable[[Starlette], int]) -> None:
    """It would be the fastest answer of all."""
    with Connection("127.0.0.1", serve(APP), "/refuse", {"x": 1}) as connection, pytest.raises(BadAnswer, match="429"):
        probe(connection, 5)
