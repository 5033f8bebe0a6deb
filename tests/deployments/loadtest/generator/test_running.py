"""A load on real servers: each call counts from when it was to be sent, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from dataclasses import replace

import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.loadtest.calls.load_call import AnswerForm
from deployments.loadtest.generator.running import run_load
from deployments.loadtest.generator.workers import GeneratorFailed, GeneratorProcesses
from deployments.loadtest.results.statistics import summarise
from loadtests.loadtest.generator import measure_stall
from tests.deployments.loadtest.plans import plan_of

pytestmark = pytest.mark.slow

OBJECT = AnswerForm({"type": "object"}, {"type": "integer"}, {})


def app_of(answer):
    """An application with one function."""
    return Starlette(routes=[Route("/v2/models/f", answer, methods=["POST"])])


async def ok(request):
    """Right at once."""
    headers = {"server-timing": "queue;dur=1.5, batch;dur=0.5, model;dur=3, total;dur=6"}
    return JSONResponse({}, headers=headers)


def test_a_steady_load(serve):
    """Every call is sent and answered; the run says when, how it went, and where."""
    run = run_load(plan_of(serve(app_of(ok)), rps=200.0, seconds=1.0, form=OBJECT, processes=2))
    assert 120 < len(run.calls) < 300
    assert [call.intended for call in run.calls] == sorted(call.intended for call in run.calls)
    assert all(call.is_right for call in run.calls)
    assert all(call.intended <= call.sent <= call.done for call in run.calls)
    assert run.calls[0].stages == {"queue": 0.002, "model": 0.003}
    assert run.calls[0].is_warm is True
    assert run.calls[0].bytes_out == 2
    assert len({id(call.function) for call in run.calls}) == 1  # of millions, memory
    assert run.generator
    assert not run.is_partial
    assert run.rates == {"f": 200.0}
    assert run.machine["cores"]


@pytest.mark.full
def test_the_same_calls_from_any_number_of_processes(serve):
    """At the same times."""
    port = serve(app_of(ok))
    one = run_load(plan_of(port, seed=7))
    three = run_load(plan_of(port, seed=7, processes=3))
    assert [call.intended for call in one.calls] == pytest.approx(
        [call.intended for call in three.calls], abs=1e-6
    )


def test_errors_have_their_codes(serve):
    """Those of Wakeful's form, statuses of others, and answers that are not right."""
    answers = [
        JSONResponse({"error": "busy.", "code": "overloaded"}, 429),
        Response(b"<html>", 502),
        JSONResponse([1]),
        JSONResponse({}, headers={"server-timing": "queue;dur=1, cold;dur=80, cold_read;dur=3"}),
    ]
    turns = iter(range(10_000))

    async def answer(request):
        return answers[next(turns) % 4]

    run = run_load(plan_of(serve(app_of(answer)), form=OBJECT))
    codes = {(call.status, call.code) for call in run.calls}
    assert codes == {(429, "overloaded"), (502, "http_502"), (200, "wrong_answer"), (200, "")}
    assert {call.is_warm for call in run.calls if call.is_right} == {False}
    assert any("not of the signature" in note for note in run.notes)


def test_a_stream_has_the_time_of_its_first_item(serve):
    """And is right when it ends as it should."""

    async def answer(request):
        async def items():
            yield b"data: 1\n\n"
            await asyncio.sleep(0.05)
            yield b"data: 2\n\nevent: done\ndata: {}\n\n"

        return StreamingResponse(items(), media_type="text/event-stream")

    run = run_load(plan_of(serve(app_of(answer)), rps=20.0, form=OBJECT, wire="stream"))
    assert run.calls
    for call in run.calls:
        assert call.is_right, call
        assert call.sent < call.first < call.done


def test_a_server_that_stalls_hides_nothing(serve):
    """Calls that were to be sent while it stood still have waited since then."""
    lock, stalls = threading.Lock(), iter([True])

    async def answer(request):
        if next(stalls, False):
            time.sleep(0.5)  # noqa: ASYNC251 - the whole server stands still
        with lock:
            return JSONResponse({})

    run = run_load(plan_of(serve(app_of(answer)), rps=100.0, seconds=1.0, form=OBJECT))
    first = run.calls[0]
    during = [call for call in run.calls if call.intended < first.intended + 0.4]
    assert len(during) > 20
    for call in during:
        assert call.done >= first.sent + 0.5
        assert call.latency_s >= first.sent + 0.5 - call.intended - 1e-6


@pytest.mark.full
def test_calls_wait_for_a_connection_and_count_from_their_time(serve):
    """With two connections and calls of 50 ms, 40 a second are answered; the others wait."""

    async def answer(request):
        await asyncio.sleep(0.05)
        return JSONResponse({})

    records = []
    plan = plan_of(serve(app_of(answer)), rps=120.0, form=OBJECT, connections=2)
    with GeneratorProcesses(plan, records.extend) as workers:
        workers.begin()
        while not workers.is_done:
            time.sleep(0.02)
    assert all(call.is_right for call in records)
    assert max(call.sent - call.intended for call in records) > 0.2
    assert workers.waited > len(records) / 2
    assert workers.waited + workers.late <= len(records)  # one that waits is not late


def test_a_call_without_an_answer_has_its_reason(serve):
    """A server that never answers; one that hangs up; none at all."""
    may_end = threading.Event()

    async def hang(request):
        while not may_end.is_set():
            await asyncio.sleep(0.02)
        return JSONResponse({})

    run = run_load(plan_of(serve(app_of(hang)), rps=40.0, seconds=0.2, timeout_s=0.3))
    may_end.set()
    assert {(call.status, call.code) for call in run.calls} == {(0, "timeout")}
    assert all(call.latency_s >= 0.3 for call in run.calls)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        run = run_load(plan_of(port, rps=40.0, seconds=0.2))
        assert {(call.status, call.code) for call in run.calls} == {(0, "cut")}
    run = run_load(plan_of(port, rps=40.0, seconds=0.2))
    assert {(call.status, call.code) for call in run.calls} == {(0, "refused")}


@pytest.mark.full
def test_a_refusal_before_the_body_was_read_is_its_answer():
    """As of a body that is too large: the server answers, and closes."""

    def refuse():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(1 << 10)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.05)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse, daemon=True).start()
        plan = plan_of(listener.getsockname()[1], rps=20.0)
        large = replace(plan.calls["f"][0], body=b"x" * (8 << 20))
        run = run_load(replace(plan, calls={"f": (large,)}))
    assert (413, "http_413") in {(call.status, call.code) for call in run.calls}


@pytest.mark.full
def test_a_connection_that_was_closed_while_idle_is_not_used(serve):
    """As servers do; the call is sent on another, and none is lost."""
    count = 0

    def close_after_each():
        nonlocal count
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            count += 1
            connection.recv(1 << 16)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
            )
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=close_after_each, daemon=True).start()
        run = run_load(plan_of(listener.getsockname()[1], rps=1.2, seconds=4.0))
    waits = [b.sent - a.sent for a, b in zip(run.calls, run.calls[1:], strict=False)]
    slow = [call for call, wait in zip(run.calls[1:], waits, strict=True) if wait > 0.6]
    assert all(call.is_right for call in slow)


@pytest.mark.full
def test_calls_of_a_sequence_come_one_after_another(serve):
    """With its id, and with its start and end where they are."""
    seen = []

    async def answer(request):
        keep = ("x-sequence-id", "x-sequence-start", "x-sequence-end")
        seen.append(tuple(request.headers.get(name) for name in keep))
        return JSONResponse({})

    run = run_load(plan_of(serve(app_of(answer)), rps=30.0, sequence_calls=3))
    assert len(run.calls) == len(seen)
    by_id = {}
    for name, *marks in seen:
        by_id.setdefault(name, []).append(tuple(marks))
    assert by_id
    assert all(marks == [("1", None), (None, None), (None, "1")] for marks in by_id.values())


@pytest.mark.full
def test_sequences_end_though_the_load_is_over(serve):
    """Longer than a call may take; what is measured a second is so of the time until the last call."""

    async def answer(request):
        await asyncio.sleep(0.05)
        return JSONResponse({})

    port = serve(app_of(answer))
    run = run_load(plan_of(port, rps=2.0, seconds=6.0, sequence_calls=60, timeout_s=2.0))
    assert all(call.is_right for call in run.calls)
    assert len(run.calls) % 60 == 0
    assert not run.notes or "under way" not in run.notes[0]
    assert run.calls[-1].intended > run.seconds == 6.0
    assert summarise(run).functions["f"].throughput == len(run.calls) / run.calls[-1].intended


def test_it_ends_when_it_is_asked_to(serve):
    """With what there is by then; nothing of it is left."""
    looks = iter(range(1000))
    run = run_load(
        plan_of(serve(app_of(ok)), seconds=600.0, processes=2),
        should_stop=lambda: next(looks) > 5,
    )
    assert run.is_partial
    assert run.calls
    assert run.seconds < 60
    assert not [
        one for one in psutil.Process().children() if "generator.worker" in " ".join(one.cmdline())
    ]


def test_what_is_to_end_before_it_begins_is_interrupted(serve):
    """Nothing is sent, and there is no run of nothing."""
    seen = []

    async def answer(request):
        seen.append(request)
        return JSONResponse({})

    with pytest.raises(KeyboardInterrupt):
        run_load(plan_of(serve(app_of(answer))), should_stop=lambda: True)
    assert not seen


@pytest.mark.full
def test_calls_under_way_when_it_is_ended_are_no_timeouts(serve):
    """They count until then, and not until they were given up; it is said how many they are."""

    async def hang(request):
        await asyncio.sleep(60)

    looks = iter(range(1000))
    run = run_load(plan_of(serve(app_of(hang)), seconds=600.0), should_stop=lambda: next(looks) > 5)
    assert {(call.status, call.code) for call in run.calls} == {(0, "ended")}
    assert run.seconds < max(call.done for call in run.calls) - 4
    assert f"{len(run.calls)} calls were under way" in run.notes[0]


@pytest.mark.full
def test_the_last_answers_are_not_waited_for_once_it_is_to_end(serve):
    """All was sent, and the server answers nothing: it ends though a call has a long time left. (In
    short: ``test_a_wait_for_answers_ends_when_it_is_told_to``.)
    """
    is_waiting, may_end = threading.Event(), threading.Event()

    async def hang(request):
        while not may_end.is_set():
            await asyncio.sleep(0.02)
        return JSONResponse({})

    def look(progress):
        if progress.seconds > 1.0:
            is_waiting.set()

    run = run_load(
        plan_of(serve(app_of(hang)), seconds=0.3, timeout_s=600.0),
        on_progress=look,
        should_stop=is_waiting.is_set,
    )
    may_end.set()
    assert {call.code for call in run.calls} == {"ended"}
    assert (run.is_partial, run.seconds) == (True, 0.3)
    assert max(call.done for call in run.calls) < 120


def test_what_the_server_counts_is_seen_before_the_first_call_and_after_the_last(serve):
    """So that a short run has all its wakes and rows."""
    count = itertools.count(1)
    rows = [0]

    async def answer(request):
        rows[0] = next(count)
        return JSONResponse({})

    async def index(request):
        return JSONResponse({"functions": [{"name": "f", "state": "ready"}]})

    async def metrics(request):
        return PlainTextResponse(f'wakeful_rows_total{{function="f"}} {rows[0]}\n')

    app = app_of(answer)
    app.routes.extend([Route("/", index), Route("/metrics", metrics)])
    run = run_load(plan_of(serve(app), seconds=0.3))
    assert run.server[0].rows == 0
    assert run.server[-1].rows == len(run.calls)
    assert [sample.at for sample in run.server] == sorted(sample.at for sample in run.server)


def test_a_process_that_dies_is_an_error(serve):
    """And not a run with fewer calls."""

    def kill(progress):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "generator.worker" in " ".join(child.cmdline()):
                    child.kill()

    with pytest.raises(GeneratorFailed, match="ended with -9"):
        run_load(plan_of(serve(app_of(ok)), seconds=60.0), on_progress=kill)


def test_processes_are_ended_whatever_happens(serve):
    """Also where the load has not begun."""
    with GeneratorProcesses(plan_of(serve(app_of(ok)), processes=2), lambda _: None):
        workers = [
            child
            for child in psutil.Process().children()
            if "generator.worker" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
    assert not psutil.wait_procs(workers, 10)[1]


@pytest.mark.full
def test_the_percentile_of_a_server_that_was_stopped():
    """Within 5 % of the true one: SIGSTOP for a second, under a constant rate."""
    expected, found = measure_stall(10.0)
    assert found == pytest.approx(expected, rel=0.05)
