"""What a call takes on its way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest

from deployments.scaling.planning import over_http
from deployments.scaling.planning.over_http import (
    HTTP_S,
    LEAST_CALLS,
    LONGEST_PAUSE_S,
    WAKE_S,
    HttpCall,
    choose_pause_s,
    measure_http,
    read_timing,
    way_of,
)
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import RequestError
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("text", "worker_s", "server_s"),
    [
        ("queue;dur=1, batch;dur=2, preprocess;dur=3, model;dur=4, postprocess;dur=1, total;dur=12",
         0.010, 0.002),
        ("total;dur=0", 0.0, 0.0),
        ("", 0.0, 0.0),
        ("model;dur=1.2.3", 0.0, 0.0),
        ("cache;desc=hit, model;dur=5", 0.005, 0.0),
    ],
)  # fmt: skip
def test_an_answer_says_what_its_worker_did(text, worker_s, server_s):
    """And of another server nothing is known."""
    assert read_timing(text) == pytest.approx((worker_s, server_s))


def calls(*seconds: float, worker_s=0.010, server_s=0.001, is_local=True) -> list[HttpCall]:
    """Calls that took so long."""
    return [HttpCall(one, worker_s, server_s, is_local) for one in seconds]


def test_the_way_is_what_a_worker_did_not_do():
    """In shares, the slowest among them; on one machine it is work of its processors."""
    way = way_of(calls(0.012, 0.013, 0.020), usual_s=0.008)
    assert way.call_s == 0.013
    assert way.served == pytest.approx(1.25)
    assert way.beside_s == pytest.approx((0.002, 0.003, 0.010))
    assert way.beside_cpu_s == pytest.approx(0.003)


def test_of_another_machine_the_network_is_no_work():
    """What its server says of itself is."""
    way = way_of(calls(0.050, 0.060, is_local=False), usual_s=0.010)
    assert way.beside_cpu_s == pytest.approx(0.001)
    assert max(way.beside_s) == pytest.approx(0.050)


def test_where_answers_say_nothing_the_profile_counts():
    """As of streams, whose head is sent before a worker is done; nothing is below 0."""
    way = way_of(calls(0.007, 0.012, worker_s=0.0), usual_s=0.010)
    assert way.served == 1.0
    assert way.beside_s == pytest.approx((0.0, 0.002))
    assert way.idle_extra_s == ((0.0, 0.0),)


def after(idle_s: float, worker_s: float, times: int = 8) -> list[HttpCall]:
    """Calls whose worker had nothing to do for so long, and then took so long."""
    return [HttpCall(worker_s + 0.002, worker_s, 0.001, True, idle_s)] * times


@pytest.mark.parametrize(
    ("taken", "served", "idle_extra_s"),
    [
        pytest.param(
            [*after(0.1, 0.013), *after(0.002, 0.011), *after(0.02, 0.012)],
            1.1,
            [(0.002, 0.0), (0.02, 0.001), (0.1, 0.002)],
            id="the longer the wait, the longer the batch",
        ),
        pytest.param(
            [*after(0.002, 0.010), *after(0.02, 0.013), *after(0.1, 0.012)],
            1.0,
            [(0.002, 0.0), (0.02, 0.0025), (0.1, 0.0025)],
            id="what falls is chance",
        ),
        pytest.param(
            [*after(0.002, 0.011), *after(0.1, 0.009)],
            1.0,
            [(0.002, 0.0), (0.1, 0.0)],
            id="never less than at once",
        ),
        pytest.param(
            [*after(0.002, 0.010, 4), *after(0.1, 0.014, 5)],
            1.4,
            [(0.1, 0.0)],
            id="a few calls are one group",
        ),
    ],
)
def test_a_worker_that_had_nothing_to_do_takes_longer(taken, served, idle_extra_s):
    """By how long it waited; what it takes at once is compared with what was measured alone."""
    way = way_of(taken, usual_s=0.010)
    assert way.served == pytest.approx(served)
    assert [pytest.approx(point) for point in idle_extra_s] == list(way.idle_extra_s)


@pytest.mark.parametrize("call_s", [0.001, 0.015, 0.2, 0.9])
def test_pauses_are_of_all_lengths_and_a_function_is_not_promoted_for_them(call_s):
    """Of a worker that is one caller's: in no four seconds is it busy for 0.7 of them."""
    dice, now, calls = Random(0), 0.0, []
    pauses = []
    while now < WAKE_S + HTTP_S:
        pauses.append(choose_pause_s(dice, call_s * len(calls), now))
        now += pauses[-1]
        calls.append((now, now + call_s))
        now += call_s
    assert max(pauses) <= LONGEST_PAUSE_S
    busiest = max(
        sum(max(0.0, min(end, since + 4) - max(begin, since)) for begin, end in calls)
        for since, _ in calls
    )
    assert busiest < 0.7 * 4
    if call_s < 0.1:
        assert sum(pause == 0 for pause in pauses) == pytest.approx(len(pauses) / 3, rel=0.35)
        assert sum(pause > 0.05 for pause in pauses) > len(pauses) / 10


class Guarded(BaseHTTPRequestHandler):
    """Answers calls that show the key."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status = 200 if self.headers["authorization"] == "Bearer key" else 401
        self.send_response(status)
        self.send_header("server-timing", "model;dur=2, total;dur=3")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def guarded() -> Iterator[str]:
    """The URL of a server behind a key."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_each_call_shows_the_headers_that_are_given(guarded, monkeypatch):
    """Without them a server behind a key is not measured, and the refusal says how to give them."""
    monkeypatch.setattr(over_http, "HTTP_S", 0.01)
    monkeypatch.setattr(over_http, "WAKE_S", 0.01)
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"onnx": "m.onnx"})
    taken = measure_http(guarded, spec, {"x": 1}, {"authorization": "Bearer key"})
    assert len(taken) >= LEAST_CALLS
    assert {(one.worker_s, one.is_local) for one in taken} == {(0.002, True)}
    with pytest.raises(RequestError) as refused:
        measure_http(guarded, spec, {"x": 1}, {})
    assert refused.value.where == "--header"
    expect_values(str(refused.value), "401", "--header")
