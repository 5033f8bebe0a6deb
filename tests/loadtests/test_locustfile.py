"""Locust as a user runs it: in a process of its own, since its import patches sockets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import loadtests
from loadtests.samples import samples

pytestmark = pytest.mark.slow

ANSWERS = count()
FILE = Path(loadtests.__file__).with_name("locustfile.py")


def echo(given: dict[str, Any]) -> dict[str, Any]:
    """The row itself is its answer; a bad row's is an error."""
    is_bad = "unknown" in given
    return {"error": "unknown.", "code": "unknown_input"} if is_bad else {"row": given}


def route(name: str, answer: Callable[[dict[str, Any]], Any]) -> Route:
    """An object in, an object out; an array in, an array out."""

    async def call(request: Request) -> Response:
        given = await request.json()
        rows = given if isinstance(given, list) else [given]
        found = [answer(row) for row in rows]
        return JSONResponse(found if isinstance(given, list) else found[0])

    return Route(f"/v2/models/{name}", call, methods=["POST"])


def locust(port: int, *users: str) -> subprocess.CompletedProcess[str]:
    """A short headless run of some user classes or all, its answers in its output."""
    options = ["--headless", "-u", "2", "-r", "2", "-t", "2s", "--only-summary"]
    command = [sys.executable, "-m", "locust", "-f", str(FILE), *options]
    command += ["--host", f"http://127.0.0.1:{port}", *users]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda given: {"embedding": [0.5]}, "wrong answer: a bad row was not refused"),
        (lambda given: next(ANSWERS), "wrong answer: "),
    ],
    ids=["not refused", "another answer each time"],
)
def test_a_wrong_answer_of_status_200_fails_the_run(
    serve: Callable[[Starlette], int], wrong: Any, reason: str
) -> None:
    """Exit 1, and the table of failures says why."""
    done = locust(serve(Starlette(routes=[route("embed", wrong)])), "EmbedUser")
    assert done.returncode == 1, done.stderr
    assert reason in done.stdout + done.stderr


def test_an_answer_that_cannot_be_read_fails_the_run(serve: Callable[[Starlette], int]) -> None:
    """As a wrong one does."""

    async def call(_request: Request) -> Response:
        return Response(b"{")

    routes = [Route("/v2/models/embed", call, methods=["POST"])]
    done = locust(serve(Starlette(routes=routes)), "EmbedUser")
    assert done.returncode == 1, done.stderr
    assert "unreadable answer: JSONDecodeError" in done.stdout + done.stderr


def test_right_answers_pass(serve: Callable[[Starlette], int]) -> None:
    """Every kind of request appears in the table, none failed, exit 0."""
    port = serve(Starlette(routes=[route(name, echo) for name in ("embed", "forecast")]))
    done = locust(port, "EmbedUser", "ForecastUser")
    assert done.returncode == 0, done.stdout + done.stderr
    for sample in (*samples("embed"), *samples("forecast")):
        assert sample.name in done.stdout + done.stderr
