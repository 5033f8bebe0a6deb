"""Whether a server's answers are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtests.bench.bare import BareLoop
from loadtests.bench.oracle import EMBED, TRIVIAL, wrong_embeddings, wrong_trivial
from loadtests.bench.serving import Server
from loadtests.bench.texts import Text

VECTOR = (np.eye(384)[3]).tolist()


class Oracle:
    """A bare model that gives every text the same vector."""

    def embed(self, texts: list[Text]) -> list[list[float]]:
        """One row a text."""
        return [VECTOR for _ in texts]


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"embedding": VECTOR}, 200, ""),
        ({"embedding": VECTOR[::-1]}, 200, "wrong answer: moved by 1"),
        ({"vector": VECTOR}, 200, "wrong answer: shape []"),
        ({"error": "busy"}, 429, "status 429"),
    ],
)
def test_embeddings_are_compared_with_the_bare_model_s(
    serve: Callable[[Starlette], int], answer: dict[str, Any], status: int, reason: str
) -> None:
    """Empty when they agree; else why the number will be void."""

    async def call(_request: Request) -> Response:
        return JSONResponse(answer, status)

    server = Server(serve(Starlette(routes=[Route(EMBED, call, methods=["POST"])])), 0.0, {}, "run")
    wrong = wrong_embeddings(cast(BareLoop, Oracle()), server, [Text("a", (1,))])
    assert wrong.startswith(reason)
    assert bool(wrong) == bool(reason)


def test_the_trivial_function_must_double(serve: Callable[[Starlette], int]) -> None:
    """An echo is not enough."""

    async def call(request: Request) -> Response:
        x = (await request.json())["x"]
        return JSONResponse({"answer": x * (2 if request.url.path == TRIVIAL else 1)})

    port = serve(Starlette(routes=[Route(path, call, methods=["POST"]) for path in (TRIVIAL, "/echo")]))
    server = Server(port, 0.0, {}, "run")
    assert wrong_trivial(server, TRIVIAL) == ""
    assert "status 200" in wrong_trivial(server, "/echo")
