"""Throughput with wrk, against a small server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtests.bench import wrk
from loadtests.bench.children import ChildFailed

needs_wrk = pytest.mark.skipif(bool(wrk.missing()), reason=wrk.missing())
LINE = "result requests=900 duration_us=3000000 connect=0 read=1 write=0 status={status} timeout=2 p50_us=1500 p99_us=9000"


def test_wrk_s_line_is_read_into_seconds() -> None:
    """Microseconds and counters become a load; what stands around the line does not matter."""
    load = wrk.parse("Running 3s test\n" + LINE.format(status=4) + "\nRequests/sec: 300\n")
    assert load == wrk.Load(requests=900, seconds=3.0, refused=4, broken=3, p50_s=0.0015, p99_s=0.009)
    assert load.requests_per_s == 300


def test_a_load_with_refusals_is_void() -> None:
    """A server that refuses is fast, and no measure."""
    assert wrk.parse(LINE.format(status=4)).void == "4 of 900 answers were refusals, 3 requests broke"
    assert wrk.Load(0, 1.0, 0, 0, 0.0, 0.0).void == "no request was answered"
    assert wrk.Load(9, 1.0, 0, 0, 0.0, 0.0).void == ""


def test_output_without_a_result_is_a_failure() -> None:
    """wrk's own words are passed on."""
    with pytest.raises(ChildFailed, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")


@pytest.mark.slow
@needs_wrk
def test_the_bodies_are_posted_in_turn(serve: Callable[[Starlette], int]) -> None:
    """All of them, as JSON; answers of status 400 are counted as refused."""
    seen = set()

    async def call(request: Request) -> Response:
        x = (await request.json())["x"]
        seen.add((request.headers["content-type"], x))
        return JSONResponse({"x": x}, 400 if x == "bad" else 200)

    port = serve(Starlette(routes=[Route("/f", call, methods=["POST"])]))
    load = wrk.run(f"http://127.0.0.1:{port}/f", [{"x": 'quoted "é" \n'}, {"x": "good"}, {"x": "bad"}], 2, 1)
    assert seen == {("application/json", x) for x in ('quoted "é" \n', "good", "bad")}
    assert load.requests > 3
    assert abs(load.refused - load.requests / 3) < 3
    assert load.broken == 0
