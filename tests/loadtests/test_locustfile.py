"""Locust as a user runs it: in a process of its own, since its import patches sockets."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import loadtests
from loadtests.samples import samples
from tests.deployments.projects import wait_until

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


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def locust(serve: Callable[[Any], int]) -> Run:
    """Runs some user classes headless against routes, until each route has answered every sample
    and the next request has come, which is sent when Locust has the answer before.
    """

    def run(routes: list[Route], *users: str) -> subprocess.CompletedProcess[str]:
        asked: Counter[str] = Counter()
        app = Starlette(routes=routes)

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            asked[scope.get("path", "")] += 1
            await app(scope, receive, send)

        options = ["--headless", "-u", "2", "-r", "2", "-t", "120s", "--only-summary"]
        command = [sys.executable, "-m", "locust", "-f", str(FILE), *options]
        command += ["--host", f"http://127.0.0.1:{serve(counted)}", *users]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wanted = {route.path: len(samples(route.path.split("/")[-1])) + 3 for route in routes}
        try:
            wait_until(lambda: all(asked[path] >= least for path, least in wanted.items()))
            child.send_signal(signal.SIGTERM)
            output, errors = child.communicate(timeout=60)
        finally:
            child.kill()
        return subprocess.CompletedProcess(command, child.returncode, output, errors)

    return run


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda given: {"embedding": [0.5]}, "wrong answer: a bad row was not refused"),
        (lambda given: next(ANSWERS), "wrong answer: "),
    ],
    ids=["not refused", "another answer each time"],
)
def test_a_wrong_answer_of_status_200_fails_the_run(locust: Run, wrong: Any, reason: str) -> None:
    """Exit 1, and the table of failures says why."""
    done = locust([route("embed", wrong)], "EmbedUser")
    assert done.returncode == 1, done.stderr
    assert reason in done.stdout + done.stderr


def test_an_answer_that_cannot_be_read_fails_the_run(locust: Run) -> None:
    """As a wrong one does."""

    async def call(_request: Request) -> Response:
        return Response(b"{")

    routes = [Route("/v2/models/embed", call, methods=["POST"])]
    done = locust(routes, "EmbedUser")
    assert done.returncode == 1, done.stderr
    assert "unreadable answer: JSONDecodeError" in done.stdout + done.stderr


def test_right_answers_pass(locust: Run) -> None:
    """Every kind of request appears in the table, none failed, exit 0."""
    routes = [route(name, echo) for name in ("embed", "forecast")]
    done = locust(routes, "EmbedUser", "ForecastUser")
    assert done.returncode == 0, done.stdout + done.stderr
    for sample in (*samples("embed"), *samples("forecast")):
        assert sample.name in done.stdout + done.stderr
