"""Functions in the shared host, on Ray, over HTTP: asleep, awake, promoted, handed back, and what
one may do to the others.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deployments.ray_support import processes
from tests.deployments.projects import HOST, STAGES, Standing, function, state, wait_until

pytestmark = pytest.mark.ray


def call(client: httpx.Client, name: str, row: object) -> httpx.Response:
    """A call."""
    return client.post(f"/v2/models/{name}", json=row)


@pytest.fixture(scope="module")
def client(standing: Standing) -> Iterator[httpx.Client]:
    """Calls functions of the host; each test has its own, and `rare` is there for all."""
    (standing.folder / "bad_of_a_test.py").write_text(STAGES)
    busy = function(
        "busy",
        "stages_of_a_test:work",
        0,
        scaling=", downscale_delay_s: 5, downscale_to_zero_delay_s: 30",
    )
    with standing.served(
        *HOST,
        function("f", least=0, scaling=", downscale_to_zero_delay_s: 3"),
        busy,
        function("kept", "stages_of_a_test:work", 0),
        function("shy", "stages_of_a_test:OnlyInHost", 0),
        function("rare", least=0),
        function("gone", least=0),
        function("good", least=0),
        function("bad", "bad_of_a_test:crash", 0),
        function("own_bad", "bad_of_a_test:crash"),
    ) as client:
        yield client


def test_a_sleeping_function_is_woken_by_one_load_however_many_call_and_sleeps_again(
    client: httpx.Client, standing: Standing
) -> None:
    """The first answer says what the wake was made of; `status` and `logs` know of it."""
    assert (state(client, "f")["state"], state(client, "f")["tier"]) == ("asleep", "host")
    index = {entry["name"]: entry for entry in client.get("/v2/repository/index").json()}
    assert index["f"]["state"] == "UNAVAILABLE"
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(
                lambda i: httpx.post(
                    f"{standing.url}/v2/models/f", json={"name": f"n{i}"}, timeout=30
                ),
                range(50),
            )
        )
    assert [answer.json()["said"] for answer in answers] == [f"n{i}" for i in range(50)]
    assert (
        len([answer for answer in answers if "cold;dur=" in answer.headers["server-timing"]]) == 1
    )
    assert "cold" not in call(client, "f", {"name": "again"}).headers["server-timing"]
    wait_until(lambda: state(client, "f")["last_wake"])
    wait_until(lambda: state(client, "f")["last_minute"]["calls"] >= 50)  # of a report a second
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(standing.run, "status", "f", "--json")
        while not status.done():  # the command takes seconds on a busy machine
            call(client, "f", {"name": "kept awake"})
            time.sleep(0.2)
    awake = json.loads(status.result().stdout)
    assert (awake["state"], awake["tier"], awake["replicas"]) == ("ready", "host", 1)
    assert awake["last_wake"]["phases"].keys() >= {"queue", "stages", "answer"}
    assert (awake["last_minute"]["calls"] >= 50, awake["last_minute"]["errors"]) == (True, 0)
    assert awake["last_minute"]["p95_ms"] > 0
    logs = standing.run("logs", "f").stdout
    assert "asked by n7" in logs
    woke = [line for line in logs.splitlines() if " -- f woke in " in line]
    assert woke
    assert all(line.startswith("OUT ") for line in woke)  # it is no error
    wait_until(lambda: state(client, "f")["state"] == "asleep")
    assert call(client, "f", {"name": "b"}).status_code == 200


def test_one_function_is_taken_down_and_the_others_stay(
    client: httpx.Client, standing: Standing
) -> None:
    """Though it had no application of its own; and the same file brings it back."""
    declared = [entry["name"] for entry in client.get("/v2/repository/index").json()]
    pid = call(client, "rare", {"name": "x"}).json()["pid"]
    assert standing.run("down", "gone").returncode == 0
    assert call(client, "gone", {"name": "x"}).status_code == 404
    assert call(client, "rare", {"name": "x"}).json()["pid"] == pid
    left = [entry["name"] for entry in json.loads(standing.run("status", "--json").stdout)]
    assert sorted(left) == sorted(name for name in declared if name != "gone")
    assert standing.run("up", "--detach").returncode == 0
    wait_until(lambda: call(client, "gone", {"name": "x"}).status_code == 200)
    back = [entry["name"] for entry in client.get("/v2/repository/index").json()]
    assert sorted(back) == sorted(declared)
    assert call(client, "rare", {"name": "x"}).json()["pid"] == pid


def test_a_busy_function_is_promoted_and_handed_back_without_a_call_lost(
    client: httpx.Client, standing: Standing
) -> None:
    """Callers notice nothing but another process answering; the reasons are kept."""
    answers: list[httpx.Response] = []
    over = threading.Event()

    def caller(pause_s: float) -> None:
        with httpx.Client(base_url=standing.url, timeout=30) as mine:
            while not over.is_set():
                answers.append(call(mine, "busy", {"ms": 10}))
                over.wait(pause_s)

    with ThreadPoolExecutor(5) as pool:
        steady = pool.submit(caller, 0.25)
        hard = [pool.submit(caller, 0.005) for _ in range(3)]
        wait_until(lambda: state(client, "busy")["tier"] == "own")
        assert call(client, "rare", {"name": "x"}).status_code == 200
        wait_until(lambda: len({answer.json()["pid"] for answer in answers[-20:]}) == 1)
        wait_until(lambda: state(client, "busy")["last_minute"]["calls"] > 0)  # its replica's
        over.set()
        for one in (*hard, steady):
            one.result()
        over.clear()
        steady = pool.submit(caller, 0.25)
        wait_until(lambda: (seen := state(client, "busy"))["tier"] == "host" and not seen["doing"])
        over.set()
        steady.result()
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["pid"] for answer in answers}) == 2
    why = [
        decision["why"]
        for decision in json.loads(standing.run("status", "busy", "--why", "--json").stdout)[
            "decisions"
        ]
    ]
    assert any(line.startswith("host → own: ") and "cores of work over 4 s" in line for line in why)
    assert any(line.startswith("own → host: ") for line in why)
    assert "own → host" in standing.run("status", "busy", "--why").stdout


@pytest.mark.full
def test_the_placement_controller_dies_and_adopts_the_deployments_that_ray_has(
    client: httpx.Client, standing: Standing
) -> None:
    """Its calls go on meanwhile, and the deployment it had made is its own again."""

    def tier() -> str:
        # most of the time from one look to the next, so that it is promoted on a busy machine too
        assert call(client, "kept", {"ms": 150}).status_code == 200
        return str(httpx.get(f"{standing.url}/functions/kept", timeout=30).json().get("tier"))

    wait_until(lambda: tier() == "own")
    for process in processes.by_name(standing.home.path, "ray::ServeReplica:catalogue"):
        process.kill()
    assert call(client, "kept", {"ms": 20}).status_code == 200
    wait_until(
        lambda: (
            "from before the placement controller restarted"
            in httpx.get(f"{standing.url}/functions/kept", timeout=30).text
        )
    )
    wait_until(lambda: tier() == "own")


@pytest.mark.full
def test_a_promotion_that_fails_leaves_the_host_serving_and_says_why(client: httpx.Client) -> None:
    """Its stage constructs in the host and nowhere else."""
    until = time.monotonic() + 60
    while "did not start" not in str(state(client, "shy")["last_decision"]):
        # most of the time from one look to the next, so that it earns one on a busy machine too
        assert call(client, "shy", {"ms": 150}).status_code == 200
        assert time.monotonic() < until, client.get("/functions/shy").text
    assert "it lives in the host only" in str(state(client, "shy")["last_decision"])
    wait_until(lambda: not state(client, "shy")["doing"])
    assert (state(client, "shy")["tier"], call(client, "shy", {"ms": 10}).status_code) == (
        "host",
        200,
    )


@pytest.mark.full
def test_a_function_that_brings_the_host_down_is_taken_out_and_then_quarantined(
    client: httpx.Client, standing: Standing
) -> None:
    """The host is replaced, the others load again; one row that kills is refused itself, two of
    them are the function's end: until it is repaired, and then it runs what killed it. One that has
    a deployment for good is refused there."""
    host = call(client, "good", {"name": "x"}).json()["pid"]
    assert call(client, "bad", {"name": "x"}).json()["pid"] == host
    killer = call(client, "bad", {"name": "crash"})
    assert (killer.status_code, killer.json()["code"]) == (500, "row_quarantined")
    assert call(client, "good", {"name": "x"}).json()["pid"] != host
    wait_until(
        lambda: (
            state(client, "bad")["tier"] == "own"
            and call(client, "bad", {"name": "x"}).status_code == 200
        )
    )
    other = client.post(
        "/v2/models/bad",
        content=b'{"name" : "crash"}',
        headers={"content-type": "application/json"},
    )
    # the controller learns of its fourth process within a second
    assert other.json()["code"] in ("row_quarantined", "quarantined")
    wait_until(
        lambda: state(client, "bad")["state"] == "failed" and state(client, "bad")["tier"] == "host"
    )
    refused = call(client, "bad", {"name": "x"})
    assert (refused.status_code, refused.json()["code"]) == (503, "quarantined")
    assert "Segmentation fault" in refused.json()["error"]
    assert call(client, "good", {"name": "x"}).status_code == 200
    assert client.get("/v2/health/ready").status_code == 503

    for body in (b'{"name": "crash"}', b'{"name" : "crash"}'):
        client.post(
            "/v2/models/own_bad", content=body, headers={"content-type": "application/json"}
        )
    wait_until(lambda: call(client, "own_bad", {"name": "x"}).status_code == 503)
    assert (
        call(client, "own_bad", {"name": "x"}).json()["code"],
        state(client, "own_bad")["state"],
    ) == ("quarantined", "failed")
    assert client.get("/v2/models/own_bad").status_code == 200

    (standing.folder / "bad_of_a_test.py").write_text(STAGES.replace("ctypes.string_at(0)", "pass"))
    assert standing.run("up", "--detach").returncode == 0
    wait_until(
        lambda: (
            {call(client, name, {"name": "crash"}).status_code for name in ("bad", "own_bad")}
            == {200}
        )
    )
    wait_until(lambda: client.get("/v2/health/ready").status_code == 200)
    for process in processes.by_name(standing.home.path, "ray::ServeReplica:host"):
        process.kill()
    wait_until(lambda: call(client, "good", {"name": "x"}).status_code == 200)
    assert call(client, "bad", {"name": "crash"}).json()["said"] == "crash"
