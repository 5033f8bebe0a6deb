"""Stages that wait, by how many callers are in one at once: a call returns when so many are there."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from wakeful.testing import ServedFunctions, serve

pytestmark = pytest.mark.slow

CALLERS = 8
PATIENCE_S = 30.0

HERE = __name__

FILE = f"""\
applications:
  - name: plain
    args: {{graph: [{{stage: s, python: "{HERE}:plain"}}]}}
  - name: four
    args: {{graph: [{{stage: s, python: "{HERE}:four"}}], resources: {{num_cpus: 4}}}}
  - name: sixteen
    args: {{graph: [{{stage: s, python: "{HERE}:sixteen"}}], resources: {{num_cpus: 16}}}}
  - name: threads
    args: {{graph: [{{stage: s, python: "{HERE}:threads", threads: 16}}]}}
  - name: coroutine
    args: {{graph: [{{stage: s, python: "{HERE}:coroutine"}}]}}
  - name: to_thread
    args: {{graph: [{{stage: s, python: "{HERE}:to_thread"}}]}}
  - name: asks
    args: {{graph: [{{stage: s, python: "{HERE}:asks"}}], limits: {{request_timeout_s: 1}}}}
  - name: asks_by_threads
    args: {{graph: [{{stage: s, python: "{HERE}:asks", threads: 2}}]}}
"""

MEETINGS = {
    name: threading.Barrier(count)
    for name, count in {"four": 4, "sixteen": CALLERS, "threads": CALLERS, "to_thread": 4}.items()
}
COROUTINES = asyncio.Barrier(CALLERS)
INSIDE: list[int] = [0]
SEEN_INSIDE: set[int] = set()


def meet(name: str, x: int) -> int:
    """Until as many others have come."""
    MEETINGS[name].wait(PATIENCE_S)
    return x


def plain(x: int) -> int:
    """The newcomer's: it waits, as for a database."""
    INSIDE[0] += 1
    SEEN_INSIDE.add(INSIDE[0])
    time.sleep(0.15)
    INSIDE[0] -= 1
    return x


def four(x: int) -> int:
    """With four CPUs."""
    return meet("four", x)


def sixteen(x: int) -> int:
    """With sixteen."""
    return meet("sixteen", x)


def threads(x: int) -> int:
    """With threads of its own."""
    return meet("threads", x)


async def coroutine(x: int) -> int:
    """Awaits."""
    async with asyncio.timeout(PATIENCE_S):
        await COROUTINES.wait()
    return x


async def to_thread(x: int) -> int:
    """Awaits a thread."""
    return await asyncio.to_thread(meet, "to_thread", x)


def asks(url: str) -> int:
    """Calls itself, or another function of the same server, by HTTP."""
    if not url:
        return 0
    body = b'{"url": ""}'
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return int(json.load(answer)["s"]) + 1


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFunctions]:
    """All of them, served in this process."""
    file = tmp_path_factory.mktemp("waiting") / "serve_config.yaml"
    file.write_text(FILE)
    with serve(file) as served:
        yield served


def call_at_once(app: ServedFunctions, name: str, callers: int = CALLERS) -> list[int]:
    """What so many callers are answered."""
    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(lambda x: app[name](x=x)["s"], range(callers)))


@pytest.mark.parametrize(
    ("name", "callers"),
    [("four", 4), *((name, CALLERS) for name in ("sixteen", "threads", "coroutine", "to_thread"))],
)
def test_so_many_callers_wait_at_once(app: ServedFunctions, name: str, callers: int) -> None:
    """131 to 134, and `threads`: with fewer at once none of them would return."""
    assert call_at_once(app, name, callers) == list(range(callers))


def test_a_plain_stage_waits_for_one_caller_after_another_and_is_told_of_threads(
    app: ServedFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """130: without a key."""
    with caplog.at_level(logging.WARNING):
        assert call_at_once(app, "plain") == list(range(CALLERS))
    assert {1} == SEEN_INSIDE
    (line,) = [one.getMessage() for one in caplog.records if "waits" in one.getMessage()]
    assert line.startswith("plain: stage 's' waits: ")
    assert "`threads: 16` on the stage" in line


def test_a_stage_that_asks_its_own_server_waits_for_itself(app: ServedFunctions) -> None:
    """101: with one thread until the deadline, and not for ever; with `threads` it is answered."""
    url = f"{app.url}/v2/models/"
    refused = app.http.post("/v2/models/asks", json={"url": f"{url}asks"})
    assert refused.status_code == 504, refused.text
    assert app.asks(url="") == {"s": 0}
    assert app.asks_by_threads(url=f"{url}asks_by_threads") == {"s": 1}
