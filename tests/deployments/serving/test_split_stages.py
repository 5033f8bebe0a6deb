"""Stages with deployments of their own, on Ray: the same answers as in one process, and everything
that holds for functions.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests import onnx_models
from tests.deployments.projects import HOST, Project, Standing, state, wait_until

pytestmark = pytest.mark.ray

STAGES = '''\
import os
import time
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import RequestError, Shape

Tile = Annotated[NDArray[np.float32], Shape(150_000)]


class Tiles(TypedDict):
    tiles: list[Tile]


def cut(seed: int, count: int) -> Tiles:
    """Tiles of 600 KB."""
    tiles = [
        np.random.default_rng([seed, i]).standard_normal(150_000, np.float32) for i in range(count)
    ]
    return {"tiles": tiles}


class Looked(TypedDict):
    most: float
    pid: int


class Look:
    def __init__(self, version: int = 1, ms: int = 0) -> None:
        self.version, self.ms = version, ms

    def __call__(self, tiles: Tile, seed: int) -> Looked:
        if seed == 13:
            raise RequestError("13 is not looked at.", where="seed")
        time.sleep(self.ms / 1000)
        return {"most": np.max(tiles) * np.float32(self.version), "pid": os.getpid()}


def wait(begun: str) -> str:
    if begun:
        open(begun, "w").close()
        time.sleep(2)
    return begun


class Answer(TypedDict):
    most: list[float]
    sums: list[float]
    pids: list[int]
    parent: int


def answer(most: list[float], pid: list[int], y: list[Tile]) -> Answer:
    sums = [float(one.sum(dtype=np.float64)) for one in y]
    return {"most": most, "sums": sums, "pids": pid, "parent": os.getpid()}
'''

FUNCTION = """\
  - name: {name}
    route_prefix: /v2/models/{name}
    import_path: deployments:function
    args:
      graph:
        - {{stage: cut, python: "parts_of_a_test:cut"}}
        - {{stage: look, python: "parts_of_a_test:Look",
           with: {{version: {version}, ms: {ms}}}, each: tiles{look}}}
        - {{stage: model, onnx: double.onnx, each: tiles, inputs: {{x: tiles}}{model}}}
        - {{stage: answer, python: "parts_of_a_test:answer"}}
      batching: {{max_batch_size: 4}}
      autoscaling: {{min_replicas: {least}}}
      limits: {{request_timeout_s: 20}}
"""


def function(
    name: str, *, look: str = "", model: str = "", version: int = 1, ms: int = 0, least: int = 1
) -> str:
    """Its entry in the file; ``look`` and ``model`` are the deployments of these stages."""
    split = {
        key: f", deployment: {{{value}}}" if value else ""
        for key, value in (("look", look), ("model", model))
    }
    return FUNCTION.format(name=name, version=version, ms=ms, least=least, **split)


ALWAYS = "min_replicas: 1"


@contextmanager
def up(project: Project, *applications: str) -> Iterator[httpx.Client]:
    """These are served; a client of the server."""
    (project.folder / "parts_of_a_test.py").write_text(STAGES)
    onnx_models.double(project.folder / "double.onnx", ("rows", 150_000))
    with project.served(*applications, timeout_s=40) as client:
        yield client


def call(client: httpx.Client, name: str, seed: int = 1, count: int = 3) -> httpx.Response:
    """A call."""
    return client.post(f"/v2/models/{name}", json={"seed": seed, "count": count})


def answered(
    client: httpx.Client, name: str, seed: int = 1, count: int = 3
) -> tuple[list[float], list[float]]:
    """What it computes, without where it did."""
    answer = call(client, name, seed, count)
    assert answer.status_code == 200, answer.text
    return answer.json()["most"], answer.json()["sums"]


ASLEEP = "min_replicas: 0, downscale_to_zero_delay_s: 1"
FUNCTIONS = {
    "fused": function("fused", least=0),
    "split": function("split", look=ALWAYS, model=ALWAYS),
    "own": function("own", look=ASLEEP),
    "both": function("both", look=ASLEEP, model=ASLEEP, least=0),
    "killed": function("killed", look="min_replicas: 2, max_replicas: 2", ms=20),
}


@pytest.fixture(scope="module")
def client(standing: Standing) -> Iterator[httpx.Client]:
    """Of all of them."""
    with up(standing, *HOST, *FUNCTIONS.values()) as client:
        yield client


def test_a_split_function_answers_as_a_fused_one_and_is_shown_with_its_parts(
    client: httpx.Client, standing: Standing
) -> None:
    """In processes of their own; what the parts are, cost and refuse is reported, and they go with
    their function.
    """
    for seed, count in ((1, 1), (2, 3), (3, 6)):
        assert answered(client, "split", seed, count) == answered(client, "fused", seed, count)
    answer = call(client, "split").json()
    assert len(set(answer["pids"])) == 1
    assert answer["parent"] not in answer["pids"]
    assert (client.post("/v2/models/split", json={"seed": 1, "count": 0}).json()["most"]) == []

    refused = call(client, "split", seed=13)
    assert (refused.status_code, refused.json()["error"], refused.json()["where"]) == (
        400,
        "13 is not looked at.",
        "seed",
    )
    assert refused.json() | {"request_id": ""} == call(client, "fused", seed=13).json() | {
        "request_id": ""
    }

    assert (state(client, "split.look")["part_of"], state(client, "split")["part_of"]) == (
        "split",
        "",
    )
    assert state(client, "split.look")["state"] == "ready"
    wait_until(lambda: set(state(client, "split")["hop_ms"]) == {"split.look", "split.model"})
    explained = json.loads(standing.run("explain", "--json", "serve_config.yaml", "split").stdout)
    look = explained["functions"]["split"]["stages"][1]
    assert (look["what"], look["each"]) == ("function split.look", "tiles")
    assert look["hop"].startswith("hop ")
    assert look["hop"].endswith(" ms")

    one = standing.run("down", "split.look")
    assert (one.returncode, "`wakeful down split` takes both down" in one.stderr) == (1, True)

    # A part that changes is replaced, and its function goes on.
    changed = function("split", look=ALWAYS, model=ALWAYS, version=2)
    standing.declare(*HOST, *{**FUNCTIONS, "split": changed}.values())
    before = call(client, "split").json()
    assert standing.run("up", "--detach").returncode == 0
    after = call(client, "split").json()
    assert after["most"] == pytest.approx([2 * one for one in before["most"]])
    assert after["parent"] == before["parent"]
    assert after["pids"][0] != before["pids"][0]

    assert standing.run("down", "split").returncode == 0
    wait_until(lambda: call(client, "split").status_code == 404)
    left = {entry["name"] for entry in client.get("/").json()["functions"]}
    assert not left & {"split", "split.look", "split.model"}
    assert "fused" in left


def test_a_part_that_sleeps_is_woken_by_a_call_of_its_function_and_sleeps_again(
    client: httpx.Client,
) -> None:
    """In the shared host, or as a deployment without replicas where there is none; the function
    itself may be there or sleep as well.
    """
    assert (state(client, "own.look")["state"], state(client, "own.look")["tier"]) == (
        "asleep",
        "host",
    )
    assert answered(client, "own") == answered(client, "both")
    # the catalogue learns of it within a second, in which it may sleep again
    wait_until(
        lambda: (
            answered(client, "own") is not None and state(client, "own.look")["state"] == "ready"
        )
    )
    host = call(client, "own").json()["pids"][0]
    again = call(client, "both").json()
    # loaded there, it is called there
    assert (again["parent"], again["pids"][0]) == (host, host)
    wait_until(
        lambda: (
            {state(client, name)["state"] for name in ("own.look", "both.look", "both.model")}
            == {"asleep"}
        )
    )
    with ThreadPoolExecutor(8) as pool:
        assert (
            len({str(answer) for answer in pool.map(lambda _: answered(client, "own"), range(8))})
            == 1
        )


@pytest.mark.full
def test_a_part_without_a_host_wakes_from_no_replica(project: Project) -> None:
    """The call waits with its 600 KB until there is one."""
    with up(project, function("alone", look="min_replicas: 0")) as client:
        began = time.monotonic()
        assert len(answered(client, "alone")[0]) == 3
        assert time.monotonic() - began < 15


@pytest.mark.full
def test_a_killed_replica_of_a_part_costs_no_call_its_answer(
    client: httpx.Client, standing: Standing
) -> None:
    """With callers at work, and bodies that HAProxy does not send again."""
    expected = {seed: answered(client, "killed", seed, 2) for seed in range(5)}
    over = threading.Event()
    wrong: list[str] = []
    pids: list[int] = []

    def calls(number: int) -> int:
        with httpx.Client(base_url=standing.url, timeout=40) as own:
            sent = 0
            while not over.wait(0.03):
                answer = call(own, "killed", (number + sent) % 5, 2)
                if answer.status_code != 200:
                    wrong.append(answer.text)
                elif (answer.json()["most"], answer.json()["sums"]) != expected[
                    (number + sent) % 5
                ]:
                    wrong.append("another answer")
                else:
                    pids.extend(answer.json()["pids"])
                sent += 1
            return sent

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(calls, number) for number in range(6)]
        try:
            wait_until(lambda: len(set(pids)) == 2)
            for _ in range(2):
                victim = pids[-1]
                assert psutil.Process(victim).name().startswith("ray::")
                os.kill(victim, signal.SIGKILL)
                seen = len(pids)
                wait_until(lambda seen=seen, victim=victim: len(set(pids[seen:]) - {victim}) >= 2)
        finally:
            over.set()
        sent = sum(one.result() for one in running)
    assert not wrong, f"{len(wrong)} of {sent}: {wrong[:3]}"
    assert len(set(pids)) == 4


WAITS = """\
  - name: waits
    route_prefix: /v2/models/waits
    import_path: deployments:function
    args:
      graph:
        - {stage: wait, python: "parts_of_a_test:wait"}
        - {stage: cut, python: "parts_of_a_test:cut"}
        - {stage: look, python: "parts_of_a_test:Look", each: tiles, deployment: {min_replicas: 1}}
      autoscaling: {min_replicas: 1}
"""


@pytest.mark.full
def test_the_end_waits_for_the_calls_of_calls_in_flight(project: Project) -> None:
    """`down` takes nothing new, and what a function that runs sends its parts is nothing
    new.
    """
    with up(project, *HOST, WAITS), ThreadPoolExecutor(1) as pool:
        begun = project.folder / "begun"
        row = {"begun": str(begun), "seed": 1, "count": 2}
        call_in_flight = pool.submit(
            httpx.post, f"{project.url}/v2/models/waits", json=row, timeout=40
        )
        wait_until(begun.exists)
        assert project.run("down").returncode == 0
        answer = call_in_flight.result()
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["most"]) == 2
