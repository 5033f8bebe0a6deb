"""Functions in the shared host, on Ray, over HTTP: asleep, awake, promoted, handed back, and what one may do to the others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from deployments import processes
from tests.deployments.projects import HOST, Project, function, state, wait_until

pytestmark = pytest.mark.ray


@contextmanager
def up(project: Project, *functions: str, **more: str) -> Iterator[httpx.Client]:
    """The functions behind a host; a client of the server."""
    project.more |= more
    with project.served(*HOST, *functions) as client:
        yield client


def call(client: httpx.Client, name: str, row: object) -> httpx.Response:
    """A call."""
    return client.post(f"/v2/models/{name}", json=row)


def test_a_sleeping_function_is_woken_by_one_load_however_many_call_and_sleeps_again(project):
    """The first answer says what the wake was made of; `status` and `logs` know of it."""
    with up(project, function("f", least=0, scaling=", downscale_to_zero_delay_s: 3")) as client:
        assert (state(client, "f")["state"], state(client, "f")["tier"]) == ("asleep", "host")
        assert client.get("/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda i: httpx.post(f"{project.url}/v2/models/f", json={"name": f"n{i}"}, timeout=30), range(50)))
        assert [answer.json()["said"] for answer in answers] == [f"n{i}" for i in range(50)]
        assert len([answer for answer in answers if "cold;dur=" in answer.headers["server-timing"]]) == 1
        assert "cold" not in call(client, "f", {"name": "again"}).headers["server-timing"]
        wait_until(lambda: state(client, "f")["last_wake"])
        awake = json.loads(project.run("status", "f", "--json").stdout)
        assert (awake["state"], awake["tier"], awake["replicas"]) == ("ready", "host", 1)
        assert awake["last_wake"]["phases"].keys() >= {"queue", "stages", "answer"}
        logs = project.run("logs", "f").stdout
        assert "asked by n7" in logs
        assert " -- f woke in " in logs
        wait_until(lambda: state(client, "f")["state"] == "asleep")
        assert call(client, "f", {"name": "b"}).status_code == 200


def test_a_busy_function_is_promoted_and_handed_back_without_a_call_lost(project):
    """Callers notice nothing but another process answering; the reasons are kept."""
    busy = function("busy", "stages_of_a_test:work", 0, scaling=", downscale_delay_s: 5, downscale_to_zero_delay_s: 30")
    with up(project, busy, function("rare", least=0), WAKEFUL_PROMOTE_WORK="0.3") as client:
        answers: list[httpx.Response] = []
        over = threading.Event()

        def caller(pause_s: float) -> None:
            with httpx.Client(base_url=project.url, timeout=30) as mine:
                while not over.is_set():
                    answers.append(call(mine, "busy", {"ms": 10}))
                    over.wait(pause_s)

        with ThreadPoolExecutor(5) as pool:
            steady = pool.submit(caller, 0.25)
            hard = [pool.submit(caller, 0.005) for _ in range(3)]
            wait_until(lambda: state(client, "busy")["tier"] == "own")
            assert call(client, "rare", {"name": "x"}).status_code == 200
            wait_until(lambda: len({answer.json()["pid"] for answer in answers[-20:]}) == 1)
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
        why = [decision["why"] for decision in json.loads(project.run("status", "busy", "--why", "--json").stdout)["decisions"]]
        assert any(line.startswith("host → own: ") and "cores of work over 4 s" in line for line in why)
        assert any(line.startswith("own → host: ") for line in why)
        assert "own → host" in project.run("status", "busy", "--why").stdout


def test_the_owner_of_placement_dies_and_learns_from_what_stands(project):
    """Its calls go on meanwhile, and the deployment it had made is its own again."""
    with up(project, function("busy", "stages_of_a_test:work", 0), WAKEFUL_PROMOTE_WORK="0.1") as client:

        def tier() -> str:
            assert call(client, "busy", {"ms": 20}).status_code == 200
            return str(httpx.get(f"{project.url}/functions/busy", timeout=30).json().get("tier"))

        wait_until(lambda: tier() == "own")
        for process in processes.ours(project.home.path):
            if "ServeReplica:catalogue" in " ".join(process.cmdline()):
                process.kill()
        assert call(client, "busy", {"ms": 20}).status_code == 200
        wait_until(lambda: "stands from before" in project.run("status", "busy", "--why").stdout)
        wait_until(lambda: tier() == "own")


def test_a_promotion_that_fails_leaves_the_host_serving_and_says_why(project):
    """Its stage constructs in the host and nowhere else."""
    with up(project, function("shy", "stages_of_a_test:OnlyInHost", 0), WAKEFUL_PROMOTE_WORK="0.05") as client:
        until = time.monotonic() + 30
        while "did not start" not in str(state(client, "shy")["last_decision"]):
            assert call(client, "shy", {"ms": 10}).status_code == 200
            assert time.monotonic() < until, client.get("/functions/shy").text
        assert "it lives in the host only" in str(state(client, "shy")["last_decision"])
        wait_until(lambda: not state(client, "shy")["doing"])
        assert (state(client, "shy")["tier"], call(client, "shy", {"ms": 10}).status_code) == ("host", 200)


def test_a_function_that_brings_the_host_down_is_taken_out_and_then_quarantined(project):
    """The host is replaced, the others load again; one row that kills is refused itself, two of them are the function's end."""
    with up(project, function("good", least=0), function("bad", "stages_of_a_test:crash", 0)) as client:
        host = call(client, "good", {"name": "x"}).json()["pid"]
        assert call(client, "bad", {"name": "x"}).json()["pid"] == host
        killer = call(client, "bad", {"name": "crash"})
        assert (killer.status_code, killer.json()["code"]) == (500, "row_quarantined")
        assert call(client, "good", {"name": "x"}).json()["pid"] != host
        wait_until(lambda: state(client, "bad")["tier"] == "own" and call(client, "bad", {"name": "x"}).status_code == 200)
        other = client.post("/v2/models/bad", content=b'{"name" : "crash"}', headers={"content-type": "application/json"})
        assert other.json()["code"] in ("row_quarantined", "quarantined")  # of its fourth process the owner hears within a second
        wait_until(lambda: state(client, "bad")["state"] == "failed" and state(client, "bad")["tier"] == "host")
        refused = call(client, "bad", {"name": "x"})
        assert (refused.status_code, refused.json()["code"]) == (503, "quarantined")
        assert "Segmentation fault" in refused.json()["error"]
        assert call(client, "good", {"name": "x"}).status_code == 200


def test_two_hosts_load_a_function_once_between_them(project):
    """It belongs to one of them, and the other passes its calls on; when its host goes, the other takes over."""
    names = [f"f{i}" for i in range(6)]
    with up(project, *(function(name, least=0) for name in names), WAKEFUL_HOSTS="2") as client:
        wait_until(lambda: [host["peers"] for host in client.get("/functions/f0").json()["hosts"]] == [2, 2])
        answered = {
            name: {httpx.post(f"{project.url}/v2/models/{name}", json={"name": "x"}).json()["pid"] for _ in range(8)} for name in names
        }
        assert all(len(pids) == 1 for pids in answered.values()), answered
        assert all(state(client, name)["replicas"] == 1 for name in names)


def test_one_function_is_taken_down_and_the_others_stay(project):
    """Though it had no application of its own."""
    with up(project, function("a", least=0), function("b", least=0)) as client:
        pid = call(client, "a", {"name": "x"}).json()["pid"]
        assert project.run("down", "b").returncode == 0
        assert call(client, "b", {"name": "x"}).status_code == 404
        assert call(client, "a", {"name": "x"}).json()["pid"] == pid
        assert [entry["name"] for entry in json.loads(project.run("status", "--json").stdout)] == ["a"]
