"""`wakeful run --workers`: several processes answer as one, though any of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deployments.loadtest.calls.captures import read_capture
from tests.console_page import open_page, press
from tests.deployments.local.several import (
    HOSTS,
    callers,
    crowd,
    front,
    is_whole,
    pids,
    post,
    project,
    serving,
    url,
)
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project of the tests that leave the run as it was."""
    with project(tmp_path_factory.mktemp("several")) as made:
        yield made


@pytest.fixture(scope="module")
def run(made):
    """It serves by two processes."""
    with made.serving("--workers", str(HOSTS)) as running:
        assert running.url
        yield running


def test_a_busy_function_is_answered_by_all(run):
    """Each call by one of the processes that the run has started."""
    assert pids(crowd(run)) == set(serving(run))


def test_a_rare_function_is_answered_by_one(run):
    """The same, however often it is called: it wakes once and holds memory once."""
    assert len({post(run, "rare", {"said": "a"}).json()["pid"] for _ in range(12)}) == 1


def test_functions_call_functions_in_their_process(run):
    """As in one."""
    assert post(run, "caller", {"said": "b"}).json()["said"] == "b"


def test_the_index_tells_of_all(made, run):
    """A function once, with the number of processes that have it; so does `status`."""
    functions = {one["name"]: one for one in httpx.get(run.url).json()["functions"]}
    assert functions["work"]["replicas"] == HOSTS
    listed = {one["name"]: one for one in json.loads(made.run("status", "--json").stdout)}
    assert listed.keys() == functions.keys()
    assert (listed["work"]["replicas"], listed["work"]["tier"]) == (HOSTS, "run")
    assert listed["work"]["run"]["pid"] == run.process.pid


def counted(run, name):
    """Calls of a function that were answered with 200, over all processes, and by how many."""
    page = httpx.get(f"{run.url}/metrics").text
    found = re.findall(
        rf'wakeful_requests_total{{process="run-\d",function="{name}",code="200"}} (\d+)', page
    )
    return sum(map(int, found)), len(found)


def test_metrics_are_of_all(run):
    """Each process has its samples; together they are the calls that were made."""
    crowd(run, "once")
    before, _ = counted(run, "once")
    crowd(run, "once")
    after, processes = counted(run, "once")
    assert (after - before, processes) == (16, HOSTS)
    page = httpx.get(f"{run.url}/metrics").text
    assert 'haproxy_frontend_http_requests_total{process="haproxy"' in page
    assert 'wakeful_declared_functions{state="ready"} 7' in page


def test_statistics_are_the_sums(run):
    """Triton's, of one function and of all."""

    def counted(path):
        answer = httpx.get(f"{run.url}{path}").json()
        (one,) = (one for one in answer["model_stats"] if one["name"] == "once")
        return one["inference_stats"]["success"]["count"]

    before = counted("/v2/models/once/stats")
    crowd(run, "once")
    assert counted("/v2/models/once/stats") == counted("/v2/models/stats") == before + 16
    (told,) = (one for one in httpx.get(run.url).json()["functions"] if one["name"] == "once")
    assert told["last_minute"]["calls"] >= 16


def test_loading_and_unloading_is_done_in_all(made, run):
    """Whichever process is asked; a pin too."""

    def state():
        (one,) = (f for f in httpx.get(run.url).json()["functions"] if f["name"] == "rare")
        return one["state"], one["replicas"], one["kept"]

    assert made.run("sleep", "rare").returncode == 0
    assert state() == ("asleep", 0, False)
    assert made.run("pin", "rare").returncode == 0
    assert state() == ("ready", HOSTS, True)
    assert made.run("sleep", "rare").returncode == 1
    assert made.run("pin", "--off", "rare").returncode == 0
    assert state() == ("ready", HOSTS, False)
    assert made.run("pin", "rar").returncode == 1


def test_calls_of_all_are_recorded_in_one_file(made, run):
    """By one command, whichever process has them; it says how many they are together."""
    file = made.folder / "captures" / "work.jsonl"

    def capture(*words):
        done = made.run("capture", "work", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    begun = capture("--rate", "1", "--for", "600")
    assert (begun["rate"], begun["file"]) == (1, str(file))
    assert not begun["ends_with_process"]
    answered = Counter(answer.json()["said"] for answer in crowd(run))
    wait_until(lambda: capture()["calls"] == 16)
    assert (capture("--off")["until"], capture()["lost"]) == (None, 0)
    crowd(run)
    recorded = read_capture(file).calls
    assert Counter(json.loads(one.body)["said"] for one in recorded) == answered


def test_the_console_tells_of_all_processes(run):
    """By one of them, to whichever HAProxy leads other calls; with the log of all, and the errors that
    any has answered with. Its streams count for no other call's way.
    """
    crowd(run)
    with open_page(run.url, "work") as page, open_page(run.url):
        assert len(page.until("server")["machines"]) == 1
        shown = next(one for one in page.events[0][1]["functions"] if one["name"] == "work")
        assert (shown["state"], shown["replicas"], shown["tier"]) == ("ready", HOSTS, "run")
        tokens = {httpx.get(f"{run.url}/console/session").json()["token"] for _ in range(4)}
        assert len(tokens) == 1
        for number in range(2 * HOSTS):
            assert post(run, "work", {"ms": 1}, **{"x-request-id": f"failed-{number}"}).is_error
        ids = set()
        while len(ids) < 2 * HOSTS:
            ids |= {one["id"] for one in page.until("errors")["errors"]}
        assert ids >= {f"failed-{number}" for number in range(2 * HOSTS)}
        page.ever(
            "log",
            lambda data: any(
                "failed-" in one["text"] or "400" in one["text"] for one in data["lines"]
            ),
        )
        assert press(run.url, "rare", "pin").status_code == 200
        page.until("functions", lambda data: any(one["kept"] for one in data["functions"]))
        entry = next(one for one in httpx.get(run.url).json()["functions"] if one["name"] == "rare")
        assert (entry["replicas"], entry["kept"]) == (HOSTS, True)
        assert press(run.url, "rare", "unpin").status_code == 200
    assert len({post(run, "rare", {"said": "a"}).json()["pid"] for _ in range(12)}) == 1


def test_a_process_says_nothing_of_itself_to_clients(run):
    """Its own routes are for the others."""
    for path in (
        "/-/process/",
        "/-/process/console/counts",
        "/-/process/metrics",
        "/%2D/process/",
        "/-%2Fprocess/",
    ):
        answer = httpx.get(f"{run.url}{path}", headers={"x-request-id": "mine"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert answer.json()["request_id"] == "mine"


def test_pages_of_other_origins_call_where_the_file_lets_them(run):
    """Preflights and errors of HAProxy's own included, each header once."""
    origin = {"origin": "https://app.example"}
    asked = {"access-control-request-method": "POST"}
    preflight = httpx.options(url(run, "work"), headers={**origin, **asked})
    assert preflight.status_code == 200
    answers = [
        preflight,
        post(run, "work", {"said": "a"}, **origin),
        httpx.get(f"{run.url}/-/process/", headers=origin),
    ]
    for answer in answers:
        allowed = answer.headers.get_list("access-control-allow-origin")
        assert allowed == ["https://app.example"]
    other = post(run, "work", {"said": "a"}, origin="https://other.example")
    assert "access-control-allow-origin" not in other.headers


def test_a_call_keeps_its_id_and_its_deadline(run):
    """As in one process."""
    answer = post(
        run,
        "work",
        {"said": "a", "ms": 900},
        **{"x-request-id": "mine", "x-request-timeout-seconds": "0.2"},
    )
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"


def test_a_body_that_is_too_long_is_refused_by_its_head(run):
    """Before it is sent."""
    request = (
        b"POST /v2/models/work HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 10000000000\r\n\r\n"
    )
    host, port = run.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_a_sequence_stays_in_its_process(run):
    """Of many at once, by connections of their own; by header and by the parameters of v2."""

    def follow(number):
        named = {"x-sequence-id": f"s{number}"}
        first = post(run, "mean", {"x": number}, **named, **{"x-sequence-start": "1"})
        found = [first.json()["pid"]]
        for turn in range(1, 8):
            answer = post(run, "mean", {"x": 1}, **named).json()
            assert answer["total"] == number + turn
            found.append(answer["pid"])
        body = {
            "inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1]}],
            "parameters": {"sequence_id": f"s{number}", "sequence_end": True},
        }
        last = httpx.post(f"{url(run, 'mean')}/infer", json=body).json()
        total = {one["name"]: one["data"] for one in last["outputs"]}["total"]
        assert total == [number + 8]
        assert len(set(found)) == 1
        return found[0]

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(follow, range(12))) == set(serving(run))


def test_a_process_that_is_killed_costs_its_callers_nothing(run):
    """Its calls are answered by the other, and another one takes its place."""
    before = serving(run)
    with callers(run) as faults:
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(serving(run)) - {before[0]}) == HOSTS)
    assert faults == [], "\n".join(map(repr, faults))
    wait_until(lambda: is_whole(run, {before[0]}))
    assert before[1] in serving(run)


def test_all_that_are_killed_at_once_cost_nothing_either(run):
    """Calls wait until a process is there."""
    before = serving(run)
    with callers(run) as faults:
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(serving(run)) - set(before)) == HOSTS)
    assert faults == [], "\n".join(map(repr, faults))
    wait_until(lambda: is_whole(run, before))


def test_a_process_that_is_asked_to_end_refuses_nothing(run):
    """It answers what it has; the next one takes its place."""
    before = serving(run)
    with callers(run) as faults:
        os.kill(before[0], signal.SIGTERM)
        wait_until(lambda: before[0] not in serving(run))
    assert faults == [], "\n".join(map(repr, faults))
    wait_until(lambda: is_whole(run, {before[0]}))


def test_haproxy_that_is_killed_is_started_again(run):
    """The port stays, and callers that connect meanwhile wait."""
    before = front(run).pid
    os.kill(before, signal.SIGKILL)
    assert len(crowd(run)) == 16
    assert front(run).pid != before


def test_a_call_that_is_not_to_be_sent_again_is_not(made, run):
    """`limits.replay: false`: its caller is told that it was lost. Another function's is."""
    for name, status in (("once", 503), ("work", 200)):
        with ThreadPoolExecutor(1) as pool:
            answer, victim = killed_at_work(pool, made, run, name)
        assert answer.status_code == status, answer.text
        if status == 503:
            assert answer.json()["code"] == "unavailable"
            assert "it may have been computed" in answer.json()["error"]
        else:
            assert answer.json()["pid"] != victim
        wait_until(lambda victim=victim: is_whole(run, {victim}))


def killed_at_work(pool, made, run, name):
    """The answer to a call whose process is killed, and that process."""
    note = made.folder / "at_work"
    note.unlink(missing_ok=True)
    call = pool.submit(post, run, name, {"said": "a", "ms": 1500})
    wait_until(lambda: note.exists() and note.read_text())
    victim = int(note.read_text())
    os.kill(victim, signal.SIGKILL)
    return call.result(), victim
